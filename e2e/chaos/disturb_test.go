package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/e2e/harness"
	"holdfast/handoff/status"
)

// disturb does one thing, when its time has come, and undoes it when that is over. What cannot be done at that moment
// (there is no old generation, say) is not done, and not counted.
func (l *lane) disturb(d disturbance) {
	time.Sleep(d.after)
	var err error
	switch d.kind {
	case "kill the new generation":
		err = l.signalTo(isNew, d, syscall.SIGKILL)
	case "kill the live generation":
		err = l.signalTo(isLive, d, syscall.SIGKILL)
	case "kill the old generation":
		err = l.signalTo(isOld, d, syscall.SIGKILL)
	case "kill a worker":
		err = l.killWorker()
	case "stop the new generation":
		err = l.stop(isNew, d)
	case "stop the live generation":
		err = l.stop(isLive, d)
	case "stop the old generation":
		err = l.stop(isOld, d)
	case "reload storm":
		l.storm(100)
	case "flip the watched file":
		l.flip()
	case "remove the watched directory":
		err = l.removeWatched(d)
	case "fill the disk":
		err = l.fill(d)
	case "exhaust descriptors":
		err = l.limit(unix.RLIMIT_NOFILE, l.openDescriptors(), d)
	case "exhaust pids":
		err = l.cgroup.exhaust(d.lasts)
	case "fork fails":
		err = l.limit(unix.RLIMIT_NPROC, 1, d)
	case "exhaust inotify instances":
		err = l.hog(d)
	case "half-open clients":
		err = l.halfOpen(d)
	case "unfinished handshakes":
		err = l.unfinished()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var impossible impossibleError
	switch {
	case err == nil:
		l.disturbed[d.kind]++
	case errors.As(err, &impossible):
		l.impossible[d.kind] = err.Error()
	case !errors.Is(err, errNobody):
		l.t.Errorf("%s: %v: %v", l.server.name, d, err)
	}
}

// errNobody: there was nobody to do it to.
var errNobody = errors.New("nobody is there")

// impossibleError is why a disturbance cannot be made on this machine.
type impossibleError string

func (e impossibleError) Error() string { return string(e) }

func isNew(s *status.Snapshot, g status.Generation) bool {
	return g.State == status.Starting || g.State == status.Proving
}
func isLive(s *status.Snapshot, g status.Generation) bool { return g.Number == s.Live }
func isOld(s *status.Snapshot, g status.Generation) bool  { return g.State == status.Draining }

// find waits for a generation's main process, for as long as the disturbance lasts.
func (l *lane) find(which func(*status.Snapshot, status.Generation) bool, d disturbance) (pid int, err error) {
	for end := time.Now().Add(d.lasts); time.Now().Before(end); time.Sleep(3 * time.Millisecond) {
		doc, err := l.h.TryDocument()
		if err != nil {
			continue
		}
		for _, g := range slices.Backward(doc.Generations) {
			if g.PID == 0 || !which(doc.Snapshot, g) {
				continue
			}
			for _, p := range l.h.Processes() {
				if p.NSPID == g.PID {
					return p.PID, nil
				}
			}
		}
	}
	return 0, errNobody
}

func (l *lane) signalTo(which func(*status.Snapshot, status.Generation) bool, d disturbance, s syscall.Signal) error {
	pid, err := l.find(which, d)
	if err != nil {
		return err
	}
	return l.signal(pid, s)
}

// signal reaches a process of this lane, and no other that has its number by now.
func (l *lane) signal(pid int, s syscall.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return errNobody
	}
	defer unix.Close(fd)
	ours := slices.ContainsFunc(l.h.Descendants(), func(p harness.Process) bool { return p.PID == pid })
	if !ours {
		return errNobody
	}
	if s == syscall.SIGKILL {
		l.account.killed()
	}
	if err := unix.PidfdSendSignal(fd, s, nil, 0); err != nil {
		return errNobody
	}
	return nil
}

func (l *lane) stop(which func(*status.Snapshot, status.Generation) bool, d disturbance) error {
	pid, err := l.find(which, d)
	if err != nil {
		return err
	}
	if err := l.signal(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(d.lasts)
	_ = l.signal(pid, syscall.SIGCONT) // it may have been killed meanwhile
	return nil
}

// killWorker kills a process that is not a generation's main one.
func (l *lane) killWorker() error {
	all := l.h.Descendants()
	for _, p := range slices.Backward(all) {
		if p.PPID != l.h.PID() && p.State != "Z" && p.Comm != "sleep" {
			return l.signal(p.PID, syscall.SIGKILL)
		}
	}
	return errNobody
}

// flip changes the watched content back and forth, and leaves it as another than it was.
func (l *lane) flip() {
	l.mu.Lock()
	l.flips++
	n := l.flips
	l.mu.Unlock()
	for i := range 40 {
		_ = l.write("watch/config", fmt.Sprintf("flip %d", (n+i)%2)) // the disk may be full
		time.Sleep(5 * time.Millisecond)
	}
}

func (l *lane) removeWatched(d disturbance) error {
	if err := os.Rename(l.path("watch"), l.path("removed")); err != nil {
		return errNobody // another one is at it
	}
	time.Sleep(d.lasts)
	return os.Rename(l.path("removed"), l.path("watch"))
}

func (l *lane) fill(d disturbance) error {
	name := l.path("full")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return errNobody // it is full
	}
	defer os.Remove(name)
	defer f.Close()
	for block := make([]byte, 64<<10); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		return err
	}
	time.Sleep(d.lasts)
	return nil
}

func (l *lane) openDescriptors() int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", l.h.PID()))
	if err != nil {
		return 0
	}
	return len(entries)
}

// helperVariable makes this program do one of the things below as a lane's user, who may do them without any privilege.
const helperVariable = "HOLDFAST_CHAOS_HELP"

// help has it done until d is over.
func (l *lane) help(d disturbance, args ...string) error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperVariable+"="+strings.Join(args, " "))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uint32(l.uid), Gid: uint32(l.uid)}, Pdeathsig: syscall.SIGKILL,
	}
	var said strings.Builder
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	time.Sleep(d.lasts)
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		return fmt.Errorf("%v: %w: %s", args, err, said.String())
	}
	return nil
}

// limit lowers a soft limit of holdfast's own.
func (l *lane) limit(resource, to int, d disturbance) error {
	return l.help(d, "limit", strconv.Itoa(l.h.PID()), strconv.Itoa(resource), strconv.Itoa(to))
}

func (l *lane) hog(d disturbance) error { return l.help(d, "hog") }

// helper is what help starts: it does its thing, and undoes it when its standard input ends.
func helper(args []string) error {
	untilTheEnd := func() { _, _ = os.Stdin.Read(make([]byte, 1)) }
	if args[0] == "hog" {
		for {
			if _, err := unix.InotifyInit1(unix.IN_CLOEXEC); err != nil {
				break
			}
		}
		untilTheEnd()
		return nil
	}
	var numbers [3]int
	for i := range numbers {
		n, err := strconv.Atoi(args[1+i])
		if err != nil {
			return err
		}
		numbers[i] = n
	}
	pid, resource, to := numbers[0], numbers[1], numbers[2]
	var old unix.Rlimit
	if err := unix.Prlimit(pid, resource, nil, &old); err != nil {
		return err
	}
	if err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: uint64(to), Max: old.Max}, nil); err != nil {
		return err
	}
	untilTheEnd()
	return unix.Prlimit(pid, resource, &old, nil)
}

// cgroup is one of the kernel's pids controller, for one lane; without a dir there is none.
type cgroup struct{ dir, why string }

// newCgroup puts a process into a cgroup of its own, where this machine lets that be done.
func newCgroup(t *testing.T, pid int) cgroup {
	t.Helper()
	var why []string
	for _, parent := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		dir := filepath.Join(parent, fmt.Sprintf("holdfast-chaos-%d", pid))
		if err := os.Mkdir(dir, 0o755); err != nil {
			why = append(why, err.Error())
			continue
		}
		t.Cleanup(func() { _ = os.Remove(dir) }) // it is empty by then, or is removed at the next boot
		_, err := os.Stat(filepath.Join(dir, "pids.max"))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644)
		}
		if err == nil {
			return cgroup{dir: dir}
		}
		why = append(why, err.Error())
	}
	return cgroup{why: "no cgroup with a pids controller can be made: " + strings.Join(why, "; ")}
}

// exhaust lets nobody in it fork, or start a thread, for a while.
func (c cgroup) exhaust(d time.Duration) error {
	if c.dir == "" {
		return impossibleError(c.why)
	}
	current, err := os.ReadFile(filepath.Join(c.dir, "pids.current"))
	if err != nil {
		return err
	}
	limit := filepath.Join(c.dir, "pids.max")
	if err := os.WriteFile(limit, current, 0o644); err != nil {
		return err
	}
	time.Sleep(d)
	return os.WriteFile(limit, []byte("max"), 0o644)
}
