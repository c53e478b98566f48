package inits

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/e2e/harness"
)

// tool is an init, under the name by which it is called.
type tool struct {
	name string
	bin  string
	own  bool // it is holdfast, under whatever name
	// hangs says that it is known not to do what the case waits for.
	hangs bool
}

// patience bounds a wait for something that takes milliseconds on a quiet machine. What one is known not to do is waited for
// less long.
func (x tool) patience() time.Duration {
	if x.hangs {
		return 2 * time.Second
	}
	return time.Minute
}

// argv is the tool's command line.
func (x tool) argv(flags []string, command ...string) []string {
	argv := []string{x.bin}
	if x.name == "holdfast" {
		argv = append(argv, "--probe-addr=") // all run at the same time
	}
	return append(append(append(argv, flags...), "--"), command...)
}

// witness builds e2e/init/witness, once.
var witness = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp(os.Getenv("HOLDFAST_E2E_DIR"), "witness-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "witness")
	cmd := exec.Command("go", "build", "-o", path, "./witness")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the witness: %w\n%s", err, out)
	}
	return path, os.Chmod(dir, 0o755)
})

func mustWitness(t *testing.T) string {
	t.Helper()
	path, err := witness()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// run says how an init is started.
type run struct {
	argv   []string
	launch []string // more for the witness that becomes the init
	env    []string // in place of the test's environment
	files  []*os.File
	tty    *os.File // its terminal
	stdout *os.File // in place of the one that is read
	stdin  bool     // it gets a pipe, whose other end is the subject's
}

// subject is an init under test.
type subject struct {
	t    *testing.T
	x    tool
	cmd  *exec.Cmd
	pid  int // outside
	done chan struct{}
	// stdin is to be written to, where that was asked for.
	stdin *os.File

	mu      sync.Mutex
	lines   []string
	changed chan struct{}
}

// outcome ends a case early: what came of it.
type outcome string

// start runs an init as PID 1 of a PID namespace; the test's end ends it with all in it.
func start(t *testing.T, x tool, r run) *subject {
	t.Helper()
	argv := append([]string{mustWitness(t), "launch", "-proc", "-given", strconv.Itoa(len(r.files))}, r.launch...)
	argv = append(append(argv, "--"), r.argv...)
	s := &subject{t: t, x: x, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{}), changed: make(chan struct{})}
	s.cmd.Env, s.cmd.ExtraFiles, s.cmd.SysProcAttr = r.env, r.files, attributes()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stdout, s.cmd.Stderr = write, write
	if r.stdin {
		given, ours, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		s.cmd.Stdin, s.stdin = given, ours
		defer given.Close()
		t.Cleanup(func() { ours.Close() })
	}
	if r.tty != nil {
		s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = r.tty, r.tty, r.tty
		s.cmd.SysProcAttr.Setsid, s.cmd.SysProcAttr.Setctty = true, true
	}
	if r.stdout != nil {
		s.cmd.Stdout, s.cmd.Stderr = r.stdout, r.stdout
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	s.pid = s.cmd.Process.Pid
	go func() {
		s.read(read) // to its end, which comes with that of the namespace: nothing is missing from the output then
		_ = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(s.end)
	return s
}

// attributes make the namespaces, with those of users where the tests are not root's.
func attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return a
}

func (s *subject) end() {
	_ = s.cmd.Process.Kill() // and with PID 1 all of its namespace
	<-s.done
	if s.t.Failed() {
		s.t.Logf("%q wrote:\n%s", s.cmd.Args, s.output())
	}
}

// read keeps what is written, by line; what comes from a terminal ends lines with CR LF.
func (s *subject) read(from io.Reader) {
	in := bufio.NewReader(from)
	for {
		line, err := in.ReadString('\n')
		s.mu.Lock()
		if line != "" {
			s.lines = append(s.lines, strings.TrimRight(line, "\r\n"))
		}
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *subject) output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

// says waits for a line that matches, and returns its first group or all of it.
func (s *subject) says(pattern string) string {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(s.x.patience())
	for from := 0; ; {
		s.mu.Lock()
		changed := s.changed
		for ; from < len(s.lines); from++ {
			if m := re.FindStringSubmatch(s.lines[from]); m != nil {
				s.mu.Unlock()
				return m[len(m)-1]
			}
		}
		s.mu.Unlock()
		select {
		case <-changed:
		case <-timeout:
			select {
			case <-s.done:
				panic(outcome(s.code()))
			default:
				panic(outcome("hangs"))
			}
		}
	}
}

func (s *subject) signal(n syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(s.pid, n); err != nil && err != syscall.ESRCH {
		s.t.Fatal(err)
	}
}

// ends waits for the end, and says how it was.
func (s *subject) ends() string {
	select {
	case <-s.done:
		return s.code()
	case <-time.After(s.x.patience()):
		return "hangs"
	}
}

func (s *subject) code() string {
	state := s.cmd.ProcessState
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return "killed by signal " + strconv.Itoa(int(ws.Signal()))
	}
	return "exit " + strconv.Itoa(state.ExitCode())
}

// until looks again and again until ok.
func (s *subject) until(ok func() bool) bool {
	for end := time.Now().Add(s.x.patience()); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// child is the main child, as seen from outside.
func (s *subject) child() int {
	s.t.Helper()
	var all []int
	s.until(func() bool { all = children(s.pid); return len(all) > 0 })
	if len(all) == 0 {
		panic(outcome("no child"))
	}
	return all[0]
}

// children lists pid's children, zombies included.
func children(pid int) (all []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		for _, f := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}

// field is a line of /proc/PID/status.
func field(pid int, name string) string { return fieldOf(fmt.Sprintf("/proc/%d/status", pid), name) }

func fieldOf(path, name string) string {
	b, _ := os.ReadFile(path)
	for line := range strings.Lines(string(b)) {
		if key, value, _ := strings.Cut(line, ":"); key == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func bits(text string) uint64 {
	n, _ := strconv.ParseUint(text, 16, 64)
	return n
}

// pending is the signals that wait for a process as a whole.
func pending(pid int) uint64 { return bits(field(pid, "ShdPnd")) }

// tools are holdfast and those it is compared with.
func tools(t *testing.T) []tool {
	t.Helper()
	all := []tool{{name: "holdfast", bin: harness.Bin(t), own: true}}
	for _, name := range []string{"tini", "dumb-init", "catatonit"} {
		path, err := exec.LookPath("/usr/bin/" + name)
		if err != nil {
			missing(t, err)
		}
		all = append(all, tool{name: name, bin: path})
	}
	return all
}

// aliases are holdfast under the others' names.
func aliases(t *testing.T) []tool {
	t.Helper()
	var all []tool
	dir := t.TempDir()
	for _, name := range []string{"tini", "dumb-init", "catatonit"} {
		path := filepath.Join(dir, name)
		if err := os.Symlink(harness.Bin(t), path); err != nil {
			t.Fatal(err)
		}
		all = append(all, tool{name: name, bin: path, own: true})
	}
	return all
}

// missing skips; in CI it fails, since a suite that skips itself shows nothing.
func missing(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
}
