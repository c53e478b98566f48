package inits

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childCases are about what the child finds.
func childCases() []testCase {
	const section = "What the child finds"
	const whyMask = "a program counts on default dispositions and an empty mask; whoever wants them otherwise sets them behind the init"
	return []testCase{
		{section: section, name: "signals", want: "default dispositions, empty mask", why: "catatonit leaves TSTP, TTIN and TTOU blocked in the child", run: childSignals()},
		{section: section, name: "signals, where the init was started with HUP, PIPE and RTMIN ignored", want: "default dispositions, empty mask", why: whyMask, run: childSignals("-ignore", "1,13,34")},
		{section: section, name: "signals, where the init was started with TERM and USR1 blocked", want: "default dispositions, empty mask", why: whyMask, run: childSignals("-block", "10,15")},
		{section: section, name: "its environment", want: "the init's, and HOLDFAST_GENERATION=1", why: "by it a generation's descendants are known, and a program can tell; under the others' names it is not there", run: childEnvironment},
		{section: section, name: "its process group", want: "its own", run: childGroup},
		{section: section, name: "its limit of open files, where the init has 100", want: "100", run: childFiles},
		{section: section, name: "its working directory", want: "the init's", run: childDirectory},
		{section: section, name: "descriptors of the init's own", want: "none", run: childDescriptors(false)},
		{section: section, name: "a descriptor that the init was given", want: "passed on", run: childDescriptors(true)},
		{section: section, name: "LISTEN_PID that named the init, LISTEN_FDS and the descriptor", want: "LISTEN_PID names the child",
			why: "a socket of systemd's or podman's is the program's; of the three only catatonit says so", run: listenPID},
		{section: section, name: "the init's own working directory", want: "the caller's",
			why: "each generation starts there, so it has to stay; under dumb-init's name it goes to /, too", run: ownDirectory},
	}
}

func childSignals(launch ...string) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		s := start(t, x, run{argv: x.argv(nil, "sleep", "1000"), launch: launch})
		child := s.child()
		if !s.until(func() bool { return comm(child) == "sleep" }) {
			return "no child"
		}
		var odd []string
		for _, name := range []string{"SigBlk", "SigIgn", "SigCgt"} {
			if set := bits(field(child, name)); set != 0 {
				odd = append(odd, fmt.Sprintf("%s %x", name, set))
			}
		}
		if len(odd) == 0 {
			return "default dispositions, empty mask"
		}
		return strings.Join(odd, ", ")
	}
}

// childEnvironment lists what the init had not.
func childEnvironment(t *testing.T, x tool) string {
	given := []string{"PATH=/usr/bin:/bin", "A=1", "EMPTY=", "NOTIFY_SOCKET=/run/notify", "HOME=/", "NGINX=/usr/sbin/nginx", "EINHORN_URL=x"}
	s := start(t, x, run{argv: x.argv(nil, "sh", "-c", `tr "\0" "\n" </proc/$$/environ; echo up; exec sleep 1000`), env: given})
	s.says("^up$")
	var more []string
	for _, line := range strings.Split(s.output(), "\n") {
		if i := slices.Index(given, line); i >= 0 {
			given = slices.Delete(given, i, i+1)
		} else if name, _, ok := strings.Cut(line, "="); ok && strings.ToUpper(name) == name {
			more = append(more, line)
		}
	}
	switch {
	case len(given) > 0:
		return "without " + strings.Join(given, " ")
	case len(more) > 0:
		return "the init's, and " + strings.Join(more, " ")
	}
	return "the init's"
}

func childGroup(t *testing.T, x tool) string {
	s := start(t, x, run{argv: x.argv(nil, "sleep", "1000")})
	child := s.child()
	if s.until(func() bool { group, err := syscall.Getpgid(child); return err == nil && group == child }) {
		return "its own"
	}
	return "the init's"
}

func childFiles(t *testing.T, x tool) string {
	s := start(t, x, run{argv: x.argv(nil, "sh", "-c", "echo limit $(ulimit -n); exec sleep 1000"), launch: []string{"-files", "100"}})
	return s.says("^limit (.*)$")
}

func childDirectory(t *testing.T, x tool) string {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, x, run{argv: x.argv(nil, "sh", "-c", "echo in $(pwd -P); exec sleep 1000")})
	if got := s.says("^in (.*)$"); got != here {
		return got
	}
	return "the init's"
}

func ownDirectory(t *testing.T, x tool) string {
	s := start(t, x, run{argv: x.argv(nil, "sh", "-c", "echo up; exec sleep 1000")})
	s.says("^up$")
	wait := s.x.patience()
	if x.name != "dumb-init" { // it would have gone by now
		wait = 300 * time.Millisecond
	}
	if s.untilWithin(wait, func() bool { got, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", s.pid)); return got == "/" }) {
		return "/"
	}
	return "the caller's"
}

// childDescriptors lists the child's, less 0 to 2.
func childDescriptors(given bool) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		r := run{argv: x.argv(nil, "sleep", "1000")}
		if given {
			file, err := os.Open("/dev/zero")
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			r.files = []*os.File{file}
		}
		s := start(t, x, r)
		child := s.child()
		if !s.until(func() bool { return comm(child) == "sleep" }) {
			return "no child"
		}
		var more []string
		s.until(func() bool { // not at once: the dynamic loader opens and closes some
			more = nil
			all, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", child))
			for _, fd := range all {
				if target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", child, fd.Name())); fd.Name() > "2" || len(fd.Name()) > 1 {
					more = append(more, target)
				}
			}
			return len(more) == 0 || len(more) == 1 && more[0] == "/dev/zero"
		})
		switch {
		case len(more) == 0:
			return "none"
		case given && len(more) == 1 && more[0] == "/dev/zero":
			return "passed on"
		}
		return strings.Join(more, ", ")
	}
}

func listenPID(t *testing.T, x tool) string {
	file, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s := start(t, x, run{
		argv: x.argv(nil, "sh", "-c", `echo "LISTEN_PID=$LISTEN_PID $LISTEN_FDS $$"; exec sleep 1000`),
		env:  append(os.Environ(), "LISTEN_PID=1", "LISTEN_FDS=1"), files: []*os.File{file},
	})
	var pid, fds, self string
	fmt.Sscanf(strings.Replace(s.says("^LISTEN_PID=.*$"), "LISTEN_PID=", "", 1), "%s %s %s", &pid, &fds, &self)
	switch {
	case self == "":
		return "the variables are gone"
	case pid == self && fds == "1":
		return "LISTEN_PID names the child"
	}
	return "LISTEN_PID=" + pid
}
