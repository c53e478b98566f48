package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/e2e/load"
	"holdfast/handoff/status"
)

// The surroundings in which containers are found, or that their makers leave them in. What is stated is in
// docs/security.md and docs/reliability.md; those that are about the takeover are in surroundings_test.go and
// forbidden_test.go.

// handOverHeld runs a server on a held port and hands over a few times under load; nothing may be lost.
func handOverHeld(t *testing.T, o harness.Options) *harness.Holdfast {
	t.Helper()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(freeport.Choose(t)))
	o.Flags = append([]string{"--listen", address, "--settle", "200ms", "--drain-timeout", "20s"}, o.Flags...)
	if o.Command == nil {
		o.Command = []string{harness.Naughty(t)}
	}
	h := harness.Run(t, o)
	h.WaitLive(1, within)
	l := startLoad(t, address)
	flow(t, l, 50)
	var cutovers []load.Cutover
	for n := 2; n <= 4; n++ {
		h.Signal(syscall.SIGHUP)
		cutovers = append(cutovers, harness.Cutovers(h.WaitLive(n, within), time.Millisecond)...)
		flow(t, l, 30)
	}
	s := h.WaitGone(within)
	if s.Ports[0].Switch == "shared" {
		cutovers = nil // who answers is then for the two generations to settle
	}
	nothingLost(t, l, cutovers)
	if got := harness.Handoffs(s, status.Completed); got != 3 {
		t.Errorf("%d handoffs completed, want 3", got)
	}
	return h
}

// TestWithout: /proc, /sys and /tmp are no part of what a handoff needs, where the port is held from the start.
func TestWithout(t *testing.T) {
	needPID1(t)
	for name, command := range map[string]string{
		"/proc":                   "umount /proc",
		"/sys":                    "umount -l /sys 2>/dev/null; mount -t tmpfs -o ro,size=4k tmpfs /sys",
		"a directory to write to": "mount --bind /tmp /tmp && mount -o remount,bind,ro /tmp && mount -o remount,bind,ro / && ! touch /tmp/x 2>/dev/null && ! touch /x 2>/dev/null",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := handOverHeld(t, harness.Options{
				PID1: true, Flags: []string{"--takeover", "off"}, Wrap: []string{"/bin/sh", "-c", command + ` && exec "$@"`, "sh"},
			})
			h.Signal(syscall.SIGTERM)
			if code := h.Wait(within); code != 0 {
				t.Errorf("exit code %d, want the server's 0", code)
			}
		})
	}
}

// TestOneProcessor: with a single one, and everything on it, nothing waits for what cannot run meanwhile.
func TestOneProcessor(t *testing.T) {
	needPID1(t)
	t.Parallel()
	h := handOverHeld(t, harness.Options{PID1: true, Wrap: []string{"taskset", "-c", firstProcessor(t)}})
	h.Signal(syscall.SIGTERM)
	h.Wait(within)
}

func firstProcessor(t *testing.T) string {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	for i := range 1024 {
		if set.IsSet(i) {
			return strconv.Itoa(i)
		}
	}
	t.Fatal("no processor")
	return ""
}

// TestWithoutSteering: a kernel that cannot steer gets one socket for all generations, and one warning says what that
// means; a server that finishes what it has accepted still loses nothing.
func TestWithoutSteering(t *testing.T) {
	needContainer(t)
	for _, c := range []struct {
		name   string
		option int
		errno  syscall.Errno
	}{
		{"no BPF for a group", unix.SO_ATTACH_REUSEPORT_CBPF, unix.EINVAL},
		{"no groups", unix.SO_REUSEPORT, unix.ENOPROTOOPT},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			container := asDocker(t)
			container.Seccomp = container.Seccomp.Refusing(unix.SOL_SOCKET, c.option, c.errno)
			h := handOverHeld(t, harness.Options{Container: &container, Flags: []string{"--takeover", "off"}})
			s := h.Status()
			if len(s.Ports) != 1 || s.Ports[0].Switch != "shared" {
				t.Errorf("held: %+v, want one shared socket", s.Ports)
			}
			if all := strings.Join(s.Warnings, "\n"); !strings.Contains(all, "this kernel cannot steer; all generations share one socket") {
				t.Errorf("warnings: %s", all)
			}
		})
	}
}

// TestSharedProcesses: in a pod with shareProcessNamespace, or with hostPID, holdfast is not PID 1. It reaps its own
// orphans all the same, ends what a generation leaves behind, and touches nobody else's process, although they are of the
// same user.
func TestSharedProcesses(t *testing.T) {
	t.Parallel()
	bystander := exec.Command("sleep", "1000")
	bystander.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- bystander.Wait() }()
	t.Cleanup(func() { _ = bystander.Process.Kill() })

	h := handOverHeld(t, harness.Options{
		Flags: []string{"--drain-timeout", "1s", "--grace-period", "1s"}, Env: []string{"NAUGHTY=1:grandchild *:ok"},
	})
	if h.Status().PID == 1 {
		t.Error("it is PID 1: that shows nothing")
	}
	if z := h.Zombies(); z != 0 {
		t.Errorf("%d zombies", z)
	}
	for _, p := range h.Descendants() {
		if p.Comm == "naughty" && p.PPID != h.PID() {
			t.Errorf("the first generation's descendant is still there: %+v", p)
		}
	}
	if code, out := h.Command("status"); code != 0 || !strings.Contains(out, "generation 4") {
		t.Errorf("status: %d: %s", code, out)
	}
	h.Signal(syscall.SIGTERM)
	if code := h.Wait(within); code != 0 {
		t.Errorf("exit code %d", code)
	}
	select {
	case err := <-ended:
		t.Errorf("the bystander has ended: %v", err)
	default:
	}
}

// TestLittleMemory: 32 MiB for holdfast and two generations of a small server. Beyond it the kernel would kill.
func TestLittleMemory(t *testing.T) {
	needPID1(t)
	t.Parallel()
	dir, limit := littleCgroup(t)
	h := handOverHeld(t, harness.Options{
		PID1: true, Wrap: []string{"/bin/sh", "-c", `echo 0 > "$0/cgroup.procs" && exec "$@"`, dir},
	})
	if b, err := os.ReadFile(filepath.Join(dir, limit)); err != nil || strings.TrimSpace(string(b)) != strconv.Itoa(littleMemory) {
		t.Errorf("the limit is %s, %v", b, err)
	}
	if pids, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err != nil || len(strings.Fields(string(pids))) < 2 {
		t.Errorf("in the cgroup: %q, %v", pids, err)
	}
	h.Signal(syscall.SIGTERM)
	h.Wait(within)
}

const littleMemory = 32 << 20

// littleCgroup makes one with that limit, and skips where none can be made. The shell joins it as /proc shows it outside
// of its PID namespace, which is why it writes 0: itself.
func littleCgroup(t *testing.T) (dir, limit string) {
	t.Helper()
	var why []string
	for parent, limit := range map[string]string{"/sys/fs/cgroup/memory": "memory.limit_in_bytes", "/sys/fs/cgroup": "memory.max"} {
		dir := filepath.Join(parent, fmt.Sprintf("holdfast-e2e-%d", os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			why = append(why, err.Error())
			continue
		}
		t.Cleanup(func() {
			for end := time.Now().Add(within); os.Remove(dir) != nil && time.Now().Before(end); { // until its processes are gone
				time.Sleep(time.Millisecond)
			}
		})
		f, err := os.OpenFile(filepath.Join(dir, limit), os.O_WRONLY, 0) // not to be made: it is there, or this is no cgroup
		if err == nil {
			_, err = f.WriteString(strconv.Itoa(littleMemory))
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			why = append(why, err.Error())
			continue
		}
		return dir, limit
	}
	t.Skipf("no cgroup with a memory controller can be made here: %s", strings.Join(why, "; "))
	return "", ""
}

// TestClosedStdout: what holdfast was started without, its child is without, and neither minds.
func TestClosedStdout(t *testing.T) {
	needPID1(t)
	t.Parallel()
	h := handOverHeld(t, harness.Options{PID1: true, Wrap: []string{"/bin/sh", "-c", `exec "$@" <&- >&-`, "sh"}})
	h.Signal(syscall.SIGTERM)
	if code := h.Wait(within); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// greedy forks until it gets no more processes.
const greedy = `$SIG{TERM} = sub { exit 3 }; $| = 1;
for (1 .. 40) { my $p = fork(); last unless defined $p; if (!$p) { $SIG{TERM} = "DEFAULT"; sleep 1000 while 1 } }
print "no more processes\n"; sleep 1000 while 1`

// TestGreedyChild: a program that uses up the limit of processes as it starts leaves holdfast the threads that it needs.
func TestGreedyChild(t *testing.T) {
	needPID1(t)
	if os.Geteuid() != 0 {
		t.Skip("the limit of processes is for a user that nobody else is")
	}
	const user, most = 64321, 12
	h := harness.Run(t, harness.Options{
		PID1: true, NoProbes: true,
		Wrap:    []string{"setpriv", fmt.Sprintf("--reuid=%d", user), "--clear-groups", "prlimit", fmt.Sprintf("--nproc=%d", most)},
		Command: []string{"perl", "-e", greedy},
	})
	h.WaitLog("no more processes", within)
	h.Signal(syscall.SIGTERM)
	if code := h.Wait(within); code != 3 {
		t.Errorf("exit %d, want the program's own, 3", code)
	}
}
