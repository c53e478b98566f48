package reaper_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"holdfast/reaper"
)

// A grove is families of real processes below this one.
type grove struct {
	t        *testing.T
	r        *reaper.Reaper
	families []*reaper.Family
}

// plant starts a family whose tree is as words say, and returns it with the pids that its processes have told.
func (g *grove) plant(words ...string) (*reaper.Family, map[string][]int) {
	g.t.Helper()
	input, _ := pipe(g.t)
	output, write := pipe(g.t)
	mark := fmt.Sprintf("REAPER_TEST_MARK=%d", len(g.families)+1)
	pid, err := g.r.Start(reaper.Command{
		Argv: append([]string{os.Args[0], "role", "tree"}, words...), Env: append(os.Environ(), mark),
		Files: []int{int(input.Fd()), int(write.Fd()), 2}, Report: -1, Terminal: -1,
	})
	if err != nil {
		g.t.Fatal(err)
	}
	write.Close()
	f := reaper.NewFamily(pid, mark)
	g.families = append(g.families, f)
	expect := map[string]int{"tree": 1}
	for _, word := range words {
		switch kind, _, _ := strings.Cut(word, ":"); kind {
		case "session":
			expect["tree"]++
			expect["hold"]++
		case "zombie":
			expect["zombie"]++
		default:
			expect["hold"]++
		}
	}
	told := map[string][]int{}
	for lines := bufio.NewScanner(output); lines.Scan(); {
		name, number, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.Atoi(number)
		if err != nil || expect[name] == 0 {
			g.t.Fatalf("a process said %q", lines.Text())
		}
		told[name] = append(told[name], n)
		if expect[name]--; expect["tree"]+expect["hold"]+expect["zombie"] == 0 {
			return f, told
		}
	}
	g.t.Fatalf("the tree is not whole: still to come %v", expect)
	return nil, nil
}

// expect compares who is in a family with the pids given.
func (g *grove) expect(f *reaper.Family, what string, pids ...int) {
	g.t.Helper()
	census, err := g.r.Census(g.families)
	if err != nil {
		g.t.Fatal(err)
	}
	var got []int
	for _, p := range census[f] {
		got = append(got, p.PID)
	}
	slices.Sort(got)
	slices.Sort(pids)
	if !slices.Equal(got, pids) {
		g.t.Errorf("%s: the family of %d is %v, want %v", what, f.Main, got, pids)
	}
}

// end ends one process and waits until it has been reaped.
func (g *grove) end(signals reaper.Signals, pid int) {
	g.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		g.t.Fatal(err)
	}
	gone := false
	reapUntil(g.t, g.r, signals, func(e reaper.Exit) { gone = gone || e.PID == pid }, func() bool { return gone })
}

func newGrove(t *testing.T) (*grove, reaper.Signals) {
	r, signals := newReaper(t)
	g := &grove{t: t, r: r}
	t.Cleanup(func() {
		census, _ := r.Census(g.families)
		for _, members := range census {
			for _, p := range members {
				_ = syscall.Kill(p.PID, syscall.SIGKILL)
			}
		}
	})
	return g, signals
}

// TestFamilyTree: descendants that the main process still has, whatever their session and environment; a zombie does not
// count.
func TestFamilyTree(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	g, _ := newGrove(t)
	f, told := g.plant("same", "session", "wiped", "zombie")
	g.expect(f, "all that live", slices.Concat(told["tree"], told["hold"])...)
	if len(told["tree"]) != 2 || len(told["hold"]) != 3 || len(told["zombie"]) != 1 {
		t.Errorf("the tree said %v", told)
	}
	for pid, want := range map[int]bool{f.Main: true, told["hold"][0]: true, told["zombie"][0]: false, os.Getpid(): false, 1: false} {
		if got := g.r.Holds(f, g.families, pid); got != want {
			t.Errorf("Holds(%d) = %v", pid, got)
		}
	}
}

// TestFamilyOrphans: double-forked processes in sessions of their own whose parents are gone.
func TestFamilyOrphans(t *testing.T) {
	for name, c := range map[string]struct {
		kind string
		one  bool // in the family while it is the only one
		two  bool // ... and when there is another one, older than the orphan
	}{
		"marked":  {"orphan:mark", true, true},
		"wiped":   {"orphan:none", true, false},
		"titled":  {"orphan:title", true, false},
		"foreign": {"orphan:foreign", false, false},
	} {
		for _, others := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s with %d others", name, others), func(t *testing.T) {
				if !alone(t, nil) {
					return
				}
				g, _ := newGrove(t)
				var other *reaper.Family
				if others > 0 {
					other, _ = g.plant()
				}
				f, told := g.plant(c.kind)
				orphan := told["hold"][0]
				eventually(t, "the orphan to be a child of this process", func() bool {
					p, err := reaper.ReadProcess(orphan)
					return err == nil && p.Parent == os.Getpid()
				})
				want := []int{f.Main}
				if others == 0 && c.one || others > 0 && c.two {
					want = append(want, orphan)
				}
				g.expect(f, name, want...)
				if other != nil {
					g.expect(other, "the other", other.Main)
				}
			})
		}
	}
}

// TestFamilyRemembers: who was seen is known for good, even when the parent has gone since, and nothing else tells.
func TestFamilyRemembers(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	g, signals := newGrove(t)
	other, _ := g.plant()
	f, told := g.plant("wiped")
	orphan := told["hold"][0]
	g.expect(f, "with its main process", f.Main, orphan)
	g.end(signals, f.Main)
	g.expect(f, "without its main process", orphan)
	g.expect(other, "the other", other.Main)
	g.end(signals, orphan)
	g.expect(f, "of which nothing is left")
}

// TestFamilyGroup: the process group of a main process that is gone still tells whose its members are.
func TestFamilyGroup(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	g, signals := newGrove(t)
	other, _ := g.plant("same")
	f, told := g.plant("same", "same")
	g.end(signals, f.Main) // before any census
	g.expect(f, "without its main process", told["hold"]...)
	if members := mustCensus(t, g)[other]; len(members) != 2 {
		t.Errorf("the other has %v", members)
	}
}

func mustCensus(t *testing.T, g *grove) map[*reaper.Family][]reaper.Process {
	t.Helper()
	census, err := g.r.Census(g.families)
	if err != nil {
		t.Fatal(err)
	}
	return census
}

// TestSignalMember: a number that is another process' by now gets no signal.
func TestSignalMember(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	g, signals := newGrove(t)
	f, _ := g.plant()
	p, err := reaper.ReadProcess(f.Main)
	if err != nil {
		t.Fatal(err)
	}
	another := p
	another.Start++
	if err := g.r.SignalMember(another, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("to another: %v, want ESRCH", err)
	}
	if err := g.r.SignalMember(p, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	reapUntil(t, g.r, signals, func(e reaper.Exit) {
		if e.PID == p.PID && e.Status.Signal() != syscall.SIGTERM {
			t.Errorf("it ended by %v", e)
		}
	}, func() bool { return syscall.Kill(p.PID, 0) != nil })
}
