package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/e2e/freeport"
)

// Options says how to run holdfast.
type Options struct {
	Flags   []string // holdfast's own; --probe-addr is added
	Command []string // what it runs
	Env     []string // added to the environment
	Dir     string   // where it starts; this directory by default

	// PID1 makes it PID 1 of a PID namespace of its own.
	PID1 bool
	// Unprivileged runs it as uid 65532 without any capability and with no_new_privs, as a restricted pod would. Where
	// the tests themselves do not run as root, it stays their user, without any capability.
	Unprivileged bool
	// Container runs it in one, in place of PID1 and Unprivileged.
	Container *Container
	// Wrap goes before holdfast's command line, inside the namespace and with its privileges, e.g. prlimit; it must
	// exec what follows it.
	Wrap []string
	// NoProbes leaves the probe server off; then there is no Status, Ready, Live or Metrics.
	NoProbes bool
	// Stderr, if not nil, is holdfast's stderr in place of the journal; the caller closes it.
	Stderr *os.File
}

// Holdfast is one running holdfast.
type Holdfast struct {
	t      testing.TB
	cmd    *exec.Cmd
	pid1   bool
	bundle *bundle // of its container; nil = it runs in none
	pid    int
	probes string
	log    *journal
	done   chan struct{} // closed when cmd has ended and its output has been read
}

// uid is who an unprivileged holdfast runs as: the nonroot user of distroless images.
const uid = "65532"

// Run starts holdfast and returns when its process is there, which is before it is ready. The test's end ends it and
// everything below it.
func Run(t testing.TB, o Options) *Holdfast {
	t.Helper()
	bin := Bin(t)
	h := &Holdfast{t: t, pid1: o.PID1 || o.Container != nil, log: newJournal(), done: make(chan struct{})}
	argv := append(append(prefix(o), o.Wrap...), bin)
	if o.NoProbes {
		argv = append(argv, "--probe-addr=")
	} else {
		h.probes = fmt.Sprintf("127.0.0.1:%d", freeport.Choose(t))
		argv = append(argv, "--probe-addr="+h.probes)
	}
	argv = append(append(append(argv, o.Flags...), "--"), o.Command...)
	if o.Container != nil {
		argv, h.bundle = contain(t, o, argv)
		o.Dir = ""
	}

	h.cmd = exec.Command(argv[0], argv[1:]...)
	h.cmd.Dir = o.Dir
	h.cmd.Env = append(os.Environ(), o.Env...)
	h.cmd.Stdout, h.cmd.Stderr = h.log.stream("stdout"), h.log.stream("stderr")
	if o.Stderr != nil {
		h.cmd.Stderr = o.Stderr
	}
	// Descendants may hold the output open after holdfast has ended; a test wants the exit code all the same.
	h.cmd.WaitDelay = 10 * time.Second
	// A test that is killed must not leave a holdfast behind.
	h.cmd.SysProcAttr = attributes(o)
	if err := h.cmd.Start(); err != nil {
		t.Fatalf("start %q: %v", argv, err)
	}
	go func() {
		_ = h.cmd.Wait()
		h.log.end()
		close(h.done)
	}()
	t.Cleanup(h.cleanup)
	h.pid = h.find(filepath.Base(bin))
	return h
}

// attributes make the namespace. Its first process is the one that is started here, with no program between that would
// have to pass on signals and exit codes (util-linux 2.38's unshare can not pass on the end by a signal).
func attributes(o Options) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if !o.PID1 {
		return a
	}
	a.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS
	if os.Geteuid() != 0 {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return a
}

// prefix is the command line that mounts the namespace's /proc and drops the privileges; each program execs the next.
func prefix(o Options) []string {
	var argv []string
	if o.PID1 {
		argv = append(argv, "/bin/sh", "-c", `mount --make-rprivate / && mount -t proc proc /proc && exec "$@"`, "sh")
	}
	if o.Unprivileged {
		argv = append(argv, "setpriv", "--no-new-privs", "--inh-caps=-all", "--ambient-caps=-all")
		isRoot := os.Geteuid() == 0
		if isRoot {
			argv = append(argv, "--reuid="+uid, "--regid="+uid, "--clear-groups")
		}
		if isRoot || o.PID1 {
			argv = append(argv, "--bounding-set=-all")
		}
		argv = append(argv, "--pdeathsig", "KILL") // a change of the user has cleared it
	}
	return argv
}

// find waits until the programs of the prefix have become holdfast, and returns its pid.
func (h *Holdfast) find(comm string) int {
	h.t.Helper()
	comm = comm[:min(len(comm), 15)]
	pid := h.cmd.Process.Pid
	if h.bundle != nil {
		pid = h.bundle.pid(h.Exited)
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if strings.TrimSpace(string(b)) == comm || h.Exited() {
			return pid
		}
	}
	h.t.Fatalf("%q does not become %s", h.cmd.Args, comm)
	return 0
}

// cleanup ends what is left and, when the test has failed, shows what holdfast said.
func (h *Holdfast) cleanup() {
	if !h.Exited() {
		// Stopped, it can start nothing while its descendants are listed; a PID namespace ends with its PID 1.
		if h.bundle == nil || h.pid == 0 { // never kill(0)
			h.pid = h.cmd.Process.Pid
		}
		_ = syscall.Kill(h.pid, syscall.SIGSTOP)
		below := []int{}
		if !h.pid1 {
			below = descendants(h.pid)
		}
		for _, pid := range append([]int{h.pid}, below...) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		select {
		case <-h.done:
		case <-time.After(time.Minute):
			h.t.Errorf("holdfast (pid %d) can not be killed", h.pid)
		}
	}
	if h.t.Failed() {
		h.t.Logf("%q (pid %d) wrote:\n%s", h.cmd.Args, h.pid, h.Log())
	}
}

// PID is holdfast's pid as seen from outside.
func (h *Holdfast) PID() int { return h.pid }

// ProbeAddr is where its probe server listens.
func (h *Holdfast) ProbeAddr() string { return h.probes }

// Signal sends sig to holdfast. A PID 1 gets it from outside its namespace, as a kubelet would send it.
func (h *Holdfast) Signal(sig syscall.Signal) {
	h.t.Helper()
	if err := h.TrySignal(sig); err != nil {
		h.t.Fatalf("send %v to holdfast: %v", sig, err)
	}
}

// TrySignal is Signal for other goroutines than the test's, and for a holdfast that may be gone.
func (h *Holdfast) TrySignal(sig syscall.Signal) error {
	if h.Exited() {
		return os.ErrProcessDone
	}
	return syscall.Kill(h.pid, sig)
}

// Exited is whether holdfast has ended.
func (h *Holdfast) Exited() bool {
	select {
	case <-h.done:
		return true
	default:
		return false
	}
}

// Wait waits for holdfast's end and returns its exit code; 128+N when signal N killed it.
func (h *Holdfast) Wait(within time.Duration) int {
	h.t.Helper()
	select {
	case <-h.done:
	case <-time.After(within):
		h.t.Fatalf("holdfast has not ended within %v", within)
	}
	state := h.cmd.ProcessState
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return state.ExitCode()
}

// CanPID1 says why no PID namespace can be made here; nil when it can.
func CanPID1() error {
	o := Options{PID1: true}
	argv := append(prefix(o), "true")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = attributes(o)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%q: %w: %s", argv, err, strings.TrimSpace(string(out)))
	}
	return nil
}
