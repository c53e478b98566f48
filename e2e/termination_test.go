package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/e2e/harness"
)

// TestTerminationLog: what has ended the container is where kubectl describe looks for it, and nothing is there after an
// end that was asked for. The file is never made, what is in it stays, and trouble with it is none of holdfast's.
func TestTerminationLog(t *testing.T) {
	crash := []string{"sh", "-c", "exit 9"}
	for name, c := range map[string]struct {
		was   string
		mode  os.FileMode // of the file; 0 = there is none
		flags []string
		run   []string
		end   bool // send SIGTERM
		code  int
		says  []string // none: it is as it was
	}{
		"the live generation crashes": {mode: 0o666, run: crash, code: 9, says: []string{"holdfast: exit code 9: generation 1, which was live and had never been ready, ended: exit code 9\n"}},
		"it is killed":                {mode: 0o666, run: []string{"sh", "-c", "kill -KILL $$"}, code: 137, says: []string{"exit code 137", "killed by SIGKILL"}},
		"it can not be executed":      {mode: 0o666, run: []string{"/not/there"}, code: 127, says: []string{"/not/there"}},
		"a wrong flag":                {mode: 0o666, flags: []string{"--settle", "soon"}, run: crash, code: 125, says: []string{"--settle", "soon"}},
		"a port that is no address":   {mode: 0o666, flags: []string{"--listen", "192.0.2.1:80"}, run: crash, code: 125, says: []string{"192.0.2.1:80"}},
		"behind the program's own":    {was: "the disk is full", mode: 0o666, run: crash, code: 9, says: []string{"the disk is full\nholdfast: exit code 9"}},
		"and its end of line":         {was: "the disk is full\n", mode: 0o666, run: crash, code: 9, says: []string{"the disk is full\nholdfast: exit code 9"}},
		"exit code 0":                 {mode: 0o666, run: []string{"true"}, code: 0},
		"remapped to 0":               {mode: 0o666, flags: []string{"--remap-exit", "9"}, run: crash, code: 0},
		"SIGTERM":                     {mode: 0o666, run: []string{"sleep", "3600"}, end: true, code: 143},
		"there is no file":            {run: crash, code: 9},
		"it is not a file":            {mode: os.ModeNamedPipe | 0o666, run: crash, code: 9},
		"it is a directory":           {mode: os.ModeDir | 0o777, run: crash, code: 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "log")
			var err error
			switch {
			case c.mode.IsDir():
				err = os.Mkdir(file, c.mode.Perm())
			case c.mode&os.ModeNamedPipe != 0:
				err = unix.Mkfifo(file, uint32(c.mode.Perm()))
			case c.mode != 0:
				err = os.WriteFile(file, []byte(c.was), c.mode)
			}
			if err != nil {
				t.Fatal(err)
			}
			h := harness.Run(t, harness.Options{
				NoProbes: true, Flags: append([]string{"--termination-log", file}, c.flags...), Command: c.run,
			})
			if c.end {
				h.WaitLog("generation starting", within)
				h.Signal(syscall.SIGTERM)
			}
			if code := h.Wait(within); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if !c.mode.IsRegular() || c.mode == 0 {
				if info, err := os.Lstat(file); (err == nil) != (c.mode != 0) || err == nil && info.Mode().Type() != c.mode.Type() {
					t.Errorf("it is another: %v, %v", info, err)
				}
				return
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range c.says {
				if !strings.Contains(string(b), want) {
					t.Errorf("it says %q, want %q", b, want)
				}
			}
			if len(c.says) == 0 && string(b) != c.was {
				t.Errorf("it says %q", b)
			}
			if strings.Count(string(b), "holdfast: ") > 1 {
				t.Errorf("it says it twice: %q", b)
			}
		})
	}
}

// TestTerminationLogOfKubelet: the file is mounted as the kubelet mounts it, and needs no flag.
func TestTerminationLogOfKubelet(t *testing.T) {
	if err := harness.CanRunc(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Parallel()
	file := filepath.Join(t.TempDir(), "termination-log")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o666); err != nil { // as the kubelet does, whatever the umask
		t.Fatal(err)
	}
	h := harness.Run(t, harness.Options{
		NoProbes: true, Command: []string{"sh", "-c", "exit 7"},
		Container: &harness.Container{UID: 65532, GID: 65532, NoNewPrivs: true, ReadOnly: true, Binds: map[string]string{"/dev/termination-log": file}},
	})
	if code := h.Wait(within); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), "ended: exit code 7") {
		t.Errorf("it says %q, %v", b, err)
	}
}
