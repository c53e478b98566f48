package reaper_test

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"holdfast/reaper"
)

// TestLook: who leaves a zombie behind is named; what is this process' own to reap is not.
func TestLook(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	g, _ := newGrove(t)
	f, _ := g.plant("zombie", "zombie", "same")
	gone, err := g.r.Start(reaper.Command{Argv: []string{"true"}, Report: -1, Terminal: -1})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a child of this one to be a zombie", func() bool {
		p, err := reaper.ReadProcess(gone)
		return err == nil && p.State == 'Z'
	})
	first := look(t)
	if len(first) != 1 || first[0].PID != f.Main || first[0].Zombies != 2 || !strings.Contains(first[0].Command, "role tree") {
		t.Fatalf("found %+v, want two of %d", first, f.Main)
	}
	if lasting := reaper.Lasting(first, look(t)); len(lasting) != 1 || lasting[0].Zombies != 2 {
		t.Errorf("lasting: %+v", lasting)
	}
	if lasting := reaper.Lasting(nil, first); len(lasting) != 0 {
		t.Errorf("lasting, though seen once: %+v", lasting)
	}
	_ = syscall.Kill(f.Main, syscall.SIGKILL)
	eventually(t, "the negligent one to be gone", func() bool {
		for range g.r.Reap() {
		}
		return len(look(t)) == 0
	})
}

// look leaves out what is beside this test's own.
func look(t *testing.T) []reaper.Neglect {
	t.Helper()
	all, err := reaper.Look(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var own []reaper.Neglect
	for _, n := range all {
		if p, err := reaper.ReadProcess(n.PID); err == nil && p.Parent == os.Getpid() {
			own = append(own, n)
		}
	}
	return own
}
