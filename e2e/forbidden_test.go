package e2e

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/e2e/harness"
)

// noListener is Docker's profile, less seccomp(2) with SECCOMP_FILTER_FLAG_NEW_LISTENER, which gets errno: so do profiles
// that know seccomp(2) only as it was before Linux 5.0.
func noListener(t *testing.T, errno syscall.Errno) *harness.Seccomp {
	const flag = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	is := func(value uint64) []harness.SeccompArg {
		return []harness.SeccompArg{{Index: 1, Value: flag, ValueTwo: value, Op: "SCMP_CMP_MASKED_EQ"}}
	}
	s := harness.DockerSeccomp(t, harness.DockerCapabilities()...).Without("seccomp")
	s.Syscalls = append(s.Syscalls,
		harness.SeccompSyscall{Names: []string{"seccomp"}, Action: "SCMP_ACT_ALLOW", Args: is(0)},
		harness.SeccompSyscall{Names: []string{"seccomp"}, Action: "SCMP_ACT_ERRNO", ErrnoRet: uint(errno), Args: is(flag)})
	return s
}

// noSeccomp is Docker's profile without seccomp(2) at all.
func noSeccomp(t *testing.T) *harness.Seccomp {
	return harness.DockerSeccomp(t, harness.DockerCapabilities()...).Without("seccomp")
}

// TestRefused: where the takeover can't be had, auto goes on without and says so once, with what would help; require is
// the end.
func TestRefused(t *testing.T) {
	needContainer(t)
	for _, c := range []struct {
		name    string
		seccomp func(*testing.T) *harness.Seccomp
		says    string // what is missing and what would help
	}{
		{"EPERM for listeners", func(t *testing.T) *harness.Seccomp { return noListener(t, syscall.EPERM) },
			`seccomp\(2\) is forbidden here: allow it in the container's seccomp profile`},
		{"ENOSYS for listeners", func(t *testing.T) *harness.Seccomp { return noListener(t, syscall.ENOSYS) },
			`this kernel has no seccomp\(2\), or the container's seccomp profile hides it`},
		{"EPERM for all", noSeccomp, `seccomp\(2\) is forbidden here: allow it in the container's seccomp profile`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			container := asDocker(t)
			container.Seccomp = c.seccomp(t)
			refused(t, harness.Options{Container: &container}, naughtyAt, c.says)
		})
	}
	// A process that has changed its user, and executed nothing since, is closed to a root without CAP_SYS_PTRACE.
	t.Run("drops before its bind", func(t *testing.T) {
		t.Parallel()
		container := asDocker(t)
		program := func(_ *testing.T, p place) []string { return p.python("drop-first=www-data") }
		refused(t, harness.Options{Container: &container}, program, `but it has changed its user and may not be looked into: CAP_SYS_PTRACE is missing; add that`)
	})
	// In a container without /proc holdfast can't see whose a socket is.
	t.Run("no /proc", func(t *testing.T) {
		t.Parallel()
		needPID1(t)
		refused(t, harness.Options{PID1: true, Wrap: []string{"/bin/sh", "-c", `umount /proc && exec "$@"`, "sh"}},
			naughtyAt, `no /proc of this PID namespace, which shows whose a socket is: mount it`)
	})
	// Without CAP_SYS_ADMIN the filter needs no_new_privs, under which a program gets no capabilities from its file.
	t.Run("file capabilities", func(t *testing.T) {
		t.Parallel()
		needPID1(t)
		program := withCapability(t)
		wrap := []string{"setpriv", "--reuid=65532", "--regid=65532", "--clear-groups", "--inh-caps=-all", "--pdeathsig", "KILL"}
		refused(t, harness.Options{PID1: true, Wrap: wrap}, func(_ *testing.T, p place) []string { return []string{program, p.address()} },
			`the program has file capabilities or is setuid, which no_new_privs would take from it`)
		h := harness.Run(t, harness.Options{PID1: true, Wrap: wrap, Command: []string{program, newPlace(t).address()}})
		h.Eventually("the program has its capability", within, func() bool {
			return slices.ContainsFunc(h.Descendants(), func(p harness.Process) bool {
				text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
				return err == nil && statusLine(text, "CapEff") == fmt.Sprintf("%016x", 1<<unix.CAP_NET_BIND_SERVICE)
			})
		})
	})
	// A runtime that has a listener of its own: here it is another holdfast's, which then holds the port.
	t.Run("a listener above", func(t *testing.T) {
		t.Parallel()
		needPID1(t)
		refused(t, harness.Options{PID1: true, Wrap: []string{harness.Bin(t), "--probe-addr=", "-q", "--reload-signal", "USR1", "--"}},
			naughtyAt, `a seccomp listener is above this process already: it runs under another holder`)
	})
}

// withCapability is a copy of naughty whose file has CAP_NET_BIND_SERVICE (setcap cap_net_bind_service+ep).
func withCapability(t *testing.T) string {
	t.Helper()
	file := filepath.Join(scratch(t), "naughty")
	if err := copyFile(file, harness.Naughty(t)); err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 20) // struct vfs_cap_data, in linux/capability.h
	binary.LittleEndian.PutUint32(value, 0x02000000|1)
	binary.LittleEndian.PutUint32(value[4:], 1<<unix.CAP_NET_BIND_SERVICE)
	if err := unix.Setxattr(file, "security.capability", value, 0); err != nil {
		t.Skipf("no capability can be given to a file here: %v", err)
	}
	return file
}

func naughtyAt(t *testing.T, p place) []string { return []string{harness.Naughty(t), p.address()} }

// refused runs a server where the takeover is refused, as o says.
func refused(t *testing.T, o harness.Options, server func(*testing.T, place) []string, says string) {
	t.Helper()
	at := newPlace(t)
	o.Command = server(t, at)
	t.Run("auto", func(t *testing.T) {
		o.Flags = []string{"--check", "true"} // it may be asked for the same reason, and says nothing of it
		h := harness.Run(t, o)
		const line = `level=WARN.*no takeover: what the child binds for itself is not held; use --listen`
		if said := h.WaitLog(line, within); !regexp.MustCompile(says).MatchString(said) {
			t.Errorf("it says %q, want %q", said, says)
		}
		h.Eventually("the server answers", within, func() bool { return answers(at.address(), "/") == 200 })
		l := startLoad(t, at.address())
		flow(t, l, 100)
		nothingLost(t, l, nil)
		// The next generation is refused as well, and says so in its own words only.
		h.Signal(syscall.SIGHUP)
		h.WaitHandoffs(1, within)
		if n := h.CountLog(line); n != 1 {
			t.Errorf("%d lines say so, want 1", n)
		}
		if s := h.Status(); s.Live != 1 || len(s.Ports) != 0 {
			t.Errorf("generation %d is live, held: %+v", s.Live, s.Ports)
		}
	})
	t.Run("require", func(t *testing.T) {
		o.Flags = []string{"--takeover", "require"}
		h := harness.Run(t, o)
		if code := h.Wait(within); code != 125 {
			t.Errorf("exit code %d, want 125", code)
		}
		if n := h.CountLog(`(main process exited|holdfast: ).*` + says); n != 1 {
			t.Errorf("%d lines say %q, want 1", n, says)
		}
	})
}

// TestHiddenProcesses: /proc mounted so that it shows nobody the processes of others. Root's group is exempt, whatever its
// capabilities (hidepid= and gid= in proc(5)).
func TestHiddenProcesses(t *testing.T) {
	needPID1(t)
	remount := `mount -o remount,hidepid=2 /proc && exec "$@"`
	all := map[string]string{
		"root":    `exec "$@"`,
		"nobody":  `exec setpriv --no-new-privs --reuid=65532 --regid=65532 --clear-groups --inh-caps=-all --bounding-set=-all --pdeathsig KILL "$@"`,
		"no caps": `exec setpriv --inh-caps=-all --bounding-set=-all,+setuid,+setgid,+kill --pdeathsig KILL "$@"`,
	}
	for name, become := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := newPlace(t)
			server := []string{harness.Naughty(t), at.address()}
			if name == "no caps" {
				server = append([]string{"/usr/bin/setpriv", "--reuid=65532", "--regid=65532", "--clear-groups"}, server...)
			}
			handOverAt(t, harness.Options{
				PID1: true, Command: server,
				Wrap: []string{"/bin/sh", "-c", strings.Replace(remount, `exec "$@"`, become, 1), "sh"},
			}, at)
		})
	}
}

// TestYama: with ptrace_scope 1 a process may be looked into by those above it, as its PID 1 is.
func TestYama(t *testing.T) {
	needPID1(t)
	b, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	switch scope := strings.TrimSpace(string(b)); {
	case err != nil:
		t.Skip("this kernel has no Yama (CONFIG_SECURITY_YAMA): there is nothing to try")
	case scope != "1":
		t.Skipf("ptrace_scope is %s here, and it is the whole machine's: no test changes it", scope)
	}
	at := newPlace(t)
	// A grandchild whose parent has gone is below PID 1 only by having been adopted.
	handOverAt(t, harness.Options{
		PID1: true, Unprivileged: true, Command: []string{"/bin/sh", "-c", harness.Naughty(t) + " " + at.address() + " & wait"},
	}, at)
}

// TestForeignCalls: what a program calls as i386 passes through: it serves, and nothing is held.
func TestForeignCalls(t *testing.T) {
	needPID1(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("there is no other architecture's call to make here")
	}
	t.Parallel()
	at := newPlace(t)
	h := harness.Run(t, harness.Options{PID1: true, Flags: []string{"--ready-timeout", "2s"}, Command: at.python("i386")})
	h.Eventually("the server answers", within, func() bool {
		if h.CountLog("Function not implemented|Segmentation fault|SIGSEGV") > 0 {
			t.Skip("this kernel takes no calls of i386 (CONFIG_IA32_EMULATION)")
		}
		return answers(at.address(), "/") == 200
	})
	if s := h.Status(); len(s.Ports) != 0 || s.Live != 1 {
		t.Errorf("held: %+v, live %d", s.Ports, s.Live)
	}
	// The next one finds the address in use, as it would without holdfast.
	l := startLoad(t, at.address())
	h.Signal(syscall.SIGHUP)
	if s := h.WaitHandoffs(1, within); s.Live != 1 {
		t.Errorf("generation %d is live", s.Live)
	}
	flow(t, l, 100)
	nothingLost(t, l, nil)
}
