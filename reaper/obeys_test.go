package reaper_test

import (
	"os/exec"
	"syscall"
	"testing"

	"holdfast/reaper"
)

// TestObeys: what a process does at SIGTSTP, and whether it has a handler for it, as the kernel tells.
func TestObeys(t *testing.T) {
	for name, c := range map[string]struct {
		argv []string
		want bool
	}{
		"by default":  {[]string{"sleep", "1000"}, true},
		"another one": {[]string{"sh", "-c", `trap "" TTIN; exec sleep 1000`}, true},
		"ignored":     {[]string{"sh", "-c", `trap "" TSTP; exec sleep 1000`}, false},
		"blocked":     {[]string{"env", "--block-signal=TSTP", "sleep", "1000"}, true},
		"caught":      {[]string{"sh", "-c", `trap "echo caught" TSTP; echo ready; while :; do sleep 1; done`, "caught"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if c.argv[0] == "env" && exec.Command("env", "--block-signal=TSTP", "true").Run() != nil {
				t.Skip("busybox's env cannot block a signal")
			}
			cmd := exec.Command(c.argv[0], c.argv[1:]...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer cmd.Process.Kill()
			if name == "caught" {
				if _, err := out.Read(make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
			} else {
				eventually(t, "sleep is executed", func() bool { p, err := reaper.ReadProcess(cmd.Process.Pid); return err == nil && p.Name == "sleep" })
			}
			if got := reaper.Obeys(cmd.Process.Pid, syscall.SIGTSTP); got != c.want {
				t.Errorf("obeys: %v, want %v", got, c.want)
			}
			if got, err := reaper.Catches(cmd.Process.Pid, syscall.SIGTSTP); got != (name == "caught") || err != nil {
				t.Errorf("catches: %v, %v", got, err)
			}
		})
	}
	if reaper.Obeys(1<<30, syscall.SIGTSTP) {
		t.Error("a process that cannot be obeys")
	}
	if got, err := reaper.Catches(1<<30, syscall.SIGTSTP); got || err == nil {
		t.Errorf("a process that cannot be catches: %v, %v", got, err)
	}
}
