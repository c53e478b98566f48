package activation

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/handoff/takeover"
)

// ShimName is argv[0] of the process between fork and the program: this binary again. It exists because LISTEN_PID must
// name the process that receives the sockets, which nobody knows before the fork.
const ShimName = "holdfast-shim"

// ShimOptions say what the shim is to do besides. The program never sees the descriptors.
type ShimOptions struct {
	Report   int  // descriptor on which it tells of a failure
	Takeover int  // descriptor of the control socket for the takeover of ports (package takeover); -1 = no takeover
	Require  bool // without the takeover the program must not run
	Control  bool // the terminal on descriptor 0, if it is nobody's, is to be the controlling one of the program's session

	Filter takeover.FilterOptions // what is to be taken over, and when
}

// ShimArgv is the shim's command line. It is short, since it counts against what an environment may take (execve(2)).
func ShimArgv(o ShimOptions, command []string) []string {
	set := 0
	for i, flag := range o.flags() {
		if *flag {
			set |= 1 << i
		}
	}
	return append([]string{ShimName, fmt.Sprintf("%d %d %d", o.Report, o.Takeover, set)}, command...)
}

func (o *ShimOptions) flags() []*bool {
	return []*bool{&o.Require, &o.Control, &o.Filter.Sockets, &o.Filter.Unlinks, &o.Filter.Connect}
}

func parseShimOptions(text string) (o ShimOptions, err error) {
	set := 0
	_, err = fmt.Sscanf(text, "%d %d %d", &o.Report, &o.Takeover, &set)
	for i, flag := range o.flags() {
		*flag = set&(1<<i) != 0
	}
	return o, err
}

// The codes with which the shim ends when the program cannot be executed, as every shell has them; and holdfast's own
// error.
const (
	codeError         = 125
	CodeNotExecutable = 126
	CodeNotFound      = 127
)

// Shim becomes the program of argv (as ShimArgv made it). It returns only if that failed, with the exit code; the reason
// has been written to the report descriptor, which otherwise closes without a word when the program begins.
func Shim(argv []string) (code int) {
	if len(argv) < 3 {
		return CodeNotExecutable
	}
	o, err := parseShimOptions(argv[1])
	if err != nil {
		return CodeNotExecutable
	}
	unix.CloseOnExec(o.Report)
	if o.Control {
		// Not stolen, as 1 would have it: it may be the one of a shell that this runs under (tty_ioctl(4)). Then, and where it
		// is no terminal at all, the program has none.
		const steal = 0
		_ = unix.IoctlSetInt(0, unix.TIOCSCTTY, steal)
	}
	runtime.LockOSThread() // the filter and the signal mask are the thread's, and execve(2) keeps those of its caller
	o.Filter.Program = executable(argv[2], os.Environ())
	if err := install(o); err != nil {
		unix.Write(o.Report, []byte(err.Error())) // nobody left to tell if that fails
		return codeError
	}
	err = become(argv[2:], environment(os.Environ(), os.Getpid()))
	unix.Write(o.Report, []byte(err.Error()))
	return ExecCode(err)
}

// install puts the filter for the takeover in place, as far as that is wanted. Where it cannot be, the holder has been
// told why, and the program can do without.
func install(o ShimOptions) error {
	if o.Takeover < 0 {
		return nil
	}
	var failed *takeover.InstallError
	err := takeover.Install(o.Takeover, o.Filter)
	if errors.As(err, &failed) && !o.Require {
		return nil
	}
	return err
}

// ExecCode returns the exit code for a program that could not be executed.
func ExecCode(err error) int {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return CodeNotFound
	}
	return CodeNotExecutable
}

// environment adds LISTEN_PID where sockets are passed.
func environment(env []string, pid int) []string {
	for _, kv := range env {
		if strings.HasPrefix(kv, "LISTEN_FDS=") {
			return append(env, "LISTEN_PID="+strconv.Itoa(pid))
		}
	}
	return env
}

// become executes command as execvp(3) does: along PATH unless the name has a slash, going on after "not found" and
// "permission denied", with /bin/sh for a script that has no first line.
func become(command, env []string) error {
	name := command[0]
	// Signals that came until now were for this process; whatever is blocked must not stay so in the program.
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &unix.Sigset_t{}, nil); err != nil {
		return fmt.Errorf("empty the signal mask: %w", err)
	}
	defaultDispositions()
	var denied, found error
	for _, path := range candidates(name, env) {
		err := syscall.Exec(path, command, env)
		if errors.Is(err, unix.ENOEXEC) {
			err = syscall.Exec("/bin/sh", append([]string{"sh", path}, command[1:]...), env)
		}
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
			if found == nil {
				found = missingInterpreter(path)
			}
		case errors.Is(err, unix.EACCES):
			denied = err
		default:
			return &os.PathError{Op: "execute", Path: path, Err: err}
		}
	}
	switch {
	case denied != nil && isDirectory(name):
		return &os.PathError{Op: "execute", Path: name, Err: fmt.Errorf("it is a directory: %w", denied)}
	case denied != nil:
		return &os.PathError{Op: "execute", Path: name, Err: denied}
	case found != nil:
		return found
	case strings.Contains(name, "/"):
		return &os.PathError{Op: "execute", Path: name, Err: unix.ENOENT}
	}
	return fmt.Errorf("execute %s: not found in PATH=%s: %w", name, search(env), unix.ENOENT)
}

// missingInterpreter tells a script or binary whose interpreter is missing from one that is not there, for which it returns
// nil: the kernel says ENOENT to both.
func missingInterpreter(path string) error {
	if _, err := os.Stat(path); err != nil {
		return nil
	}
	return &os.PathError{Op: "execute", Path: path, Err: fmt.Errorf("its interpreter (the #! line, or the dynamic loader) is missing: %w", unix.ENOENT)}
}

// executable returns the path that become will execute, "" if there is none.
func executable(name string, env []string) string {
	for _, path := range candidates(name, env) {
		if unix.Access(path, unix.X_OK) == nil && !isDirectory(path) {
			return path
		}
	}
	return ""
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// candidates lists the paths to try, in order.
func candidates(name string, env []string) []string {
	if strings.Contains(name, "/") || name == "" {
		return []string{name}
	}
	var paths []string
	for _, dir := range strings.Split(search(env), ":") {
		if dir == "" {
			dir = "."
		}
		paths = append(paths, dir+"/"+name)
	}
	return paths
}

// search returns PATH, or where it is not set what glibc takes instead (execvp(3)).
func search(env []string) string {
	for _, kv := range env {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			return path
		}
	}
	return "/bin:/usr/bin"
}
