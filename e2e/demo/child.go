package demo

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"holdfast/handoff/status"
)

// child is the holdfast that is shown.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // what Wait returned; to be read after done
	mu   sync.Mutex
	tail []byte // the last of what it wrote
}

// tailSize bounds what is kept of the child's output.
const tailSize = 16 << 10

func startChild(self string, argv []string) (*child, error) {
	c := &child{cmd: exec.Command(self, argv...), done: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = c, c
	c.cmd.WaitDelay = time.Second // a descendant that was left behind must not hold up the end
	c.cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true, // Ctrl-C is for the demo, which then ends it in order
		Pdeathsig: syscall.SIGTERM,
	}
	// What is set for this process is not meant for that one.
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HOLDFAST_") && !strings.HasPrefix(v, "LISTEN_") && !strings.HasPrefix(v, "NOTIFY_SOCKET=") {
			c.cmd.Env = append(c.cmd.Env, v)
		}
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start holdfast: %w", err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

// Write keeps the last of the output.
func (c *child) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tail = append(c.tail, b...)
	if over := len(c.tail) - tailSize; over > 0 {
		c.tail = append(c.tail[:0], c.tail[over:]...)
	}
	return len(b), nil
}

func (c *child) lastLines() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := slices.DeleteFunc(strings.Split(string(c.tail), "\n"), func(l string) bool { return strings.TrimSpace(l) == "" })
	return lines[max(len(lines)-15, 0):]
}

func (c *child) signal(sig syscall.Signal) error {
	if err := c.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("send %v to holdfast: %w", sig, err)
	}
	return nil
}

// stop ends it in order and returns its exit code.
func (c *child) stop(within time.Duration) (int, error) {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // when it has ended already, its code tells
	select {
	case <-c.done:
	case <-time.After(within):
		return 0, errors.New("holdfast does not end on SIGTERM")
	}
	return c.cmd.ProcessState.ExitCode(), nil
}

// kill ends it and everything below it, whatever state it is in.
func (c *child) kill() {
	select {
	case <-c.done:
		return
	default:
	}
	// Give it the time to end its generations in order, then end what is there: stopped first, so that it starts nothing
	// while its descendants are listed.
	if _, err := c.stop(2 * time.Second); err == nil {
		return
	}
	_ = c.cmd.Process.Signal(syscall.SIGSTOP)
	for _, pid := range append(descendants(c.cmd.Process.Pid), c.cmd.Process.Pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-c.done
}

// killOrphans ends the generations that a holdfast which has died has left behind, by the pids that it last told. A pid
// may be another's by now, so each is asked for its command line.
func (c *child) killOrphans(last *status.Snapshot, dir string) {
	if c.cmd.ProcessState.ExitCode() == 0 {
		return
	}
	for _, g := range last.Generations {
		if g.PID <= 1 {
			continue
		}
		argv, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", g.PID))
		if bytes.HasSuffix(argv, []byte("\x00demo\x00serve\x00"+dir+"\x00")) {
			_ = syscall.Kill(g.PID, syscall.SIGKILL)
		}
	}
}

// descendants lists everything below pid.
func descendants(pid int) []int {
	var all []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		for _, f := range strings.Fields(string(b)) {
			if c, err := strconv.Atoi(f); err == nil {
				all = append(append(all, c), descendants(c)...)
			}
		}
	}
	return all
}

// twoAddresses returns two loopback addresses that are free. They are below the ports that the kernel hands out for the
// load's own connections, one of which might else take them before holdfast does.
func twoAddresses() (a, b string, err error) {
	var found []string
	for port := 18080; port < 28080 && len(found) < 2; port += 1 + os.Getpid()%97 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		_ = ln.Close()
		found = append(found, addr)
	}
	if len(found) < 2 {
		return "", "", errors.New("no free port on 127.0.0.1")
	}
	return found[0], found[1], nil
}
