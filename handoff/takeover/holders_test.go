package takeover

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// holderVar says, in a test binary that another has started as another holder, which.
const holderVar = "TAKEOVER_HOLDER"

// privileged tells whether a child of this process' needs no no_new_privs (CAP_SYS_ADMIN).
func privileged(t *testing.T) bool { return capable(t, unix.CAP_SYS_ADMIN) }

func noNewPrivs() bool {
	v, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	return err == nil && v == 1
}

func capable(t *testing.T, capability int) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	caps, err := number(b, "CapEff", 0, 16)
	if err != nil {
		t.Fatal(err)
	}
	return caps>>capability&1 == 1
}

// TestHolders runs tests once more as holders of other privileges.
func TestHolders(t *testing.T) {
	setpriv, err := exec.LookPath("setpriv")
	switch {
	case os.Getenv(holderVar) != "":
		t.Skip("this is one")
	case os.Geteuid() != 0:
		t.Skip("only root can become another")
	case err != nil:
		t.Skip(err)
	}
	everything := "^Test(Replace|Return|Continue|Give|Options|Grandchild|Socket|Pointers|ReadErrors|Killed|Threads|Nested|Flags|Inherited|Descriptors|IdentityRefused|Supported|Raises|Filter.*)$"
	for name, c := range map[string]struct {
		setpriv []string
		tests   string
	}{
		"unprivileged": {[]string{"--reuid=65532", "--regid=65532", "--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"}, everything},
		"user":         {[]string{"--reuid=65532", "--regid=65532", "--clear-groups", "--inh-caps=-all"}, everything},
		"noptrace":     {[]string{"--inh-caps=-sys_ptrace", "--bounding-set=-sys_ptrace"}, everything[:len(everything)-2] + "|OtherUser)$"},
		"docker": {[]string{"--inh-caps=-all", "--bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap"},
			"^Test(Replace|OtherUser)$"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := testContext(t)
			args := append(c.setpriv, os.Getenv(binaryVar), "-test.v", "-test.run="+c.tests)
			cmd := exec.CommandContext(ctx, setpriv, args...)
			cmd.Dir = filepath.Dir(os.Getenv(binaryVar))
			cmd.Env = append(os.Environ(), holderVar+"="+name, "HOME=/nonexistent", "TMPDIR="+filepath.Join(cmd.Dir, "scratch"))
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "--- PASS: TestReplace") {
				t.Errorf("%v\n%s", err, out)
			}
			for _, line := range lines(string(out)) {
				if strings.Contains(line, "SKIP") || strings.Contains(line, "as uid") {
					t.Log(line)
				}
			}
		})
	}
}

// TestOtherUser has a target of another uid, once with what a non-root program has and once with a capability of its own.
func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start one")
	}
	ptrace := capable(t, unix.CAP_SYS_PTRACE)
	dumpableBefore, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	before := descriptors(t)
	s := begin(t, start{target: "binds", uid: nobody, args: []string{"400", "8"}}, func(c *Call) {
		if err := readv(c.PID, c.Args[1], make([]byte, 16)); refused(err) == ptrace {
			t.Errorf("process_vm_readv: %v, with CAP_SYS_PTRACE: %v", err, ptrace)
		}
		if err := pread(c.PID, c.Args[1], make([]byte, 16)); refused(err) == ptrace {
			t.Errorf("/proc/TID/mem: %v, with CAP_SYS_PTRACE: %v", err, ptrace)
		}
		if addr, err := c.Sockaddr(); err != nil || addr.Addr.String() != "127.0.0.1:9" {
			t.Errorf("Sockaddr: %v, %v", addr, err)
		}
		if info, err := c.Socket(); err != nil || info.Kind != TCP || info.Nonblock || info.CloseOnExec {
			t.Errorf("Socket: %+v, %v", info, err)
		}
		if err := c.Return(0); err != nil {
			t.Error(err)
		}
	})
	if out := s.wait(); !strings.HasPrefix(out, "0 failed") || s.count(Bind) != 400 {
		t.Errorf("%d calls; output %q", s.count(Bind), out)
	}
	if !s.l.Flags().NoNewPrivs {
		t.Errorf("%+v", s.l.Flags())
	}
	if now, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); now != dumpableBefore {
		t.Errorf("dumpable %d before, %d after", dumpableBefore, now)
	}
	threadsAreRoot(t)
	if after := descriptors(t); after > before+3 { // the listener and its epoll sets are open until the cleanup
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// threadsAreRoot looks at the file-system ids of every thread, and that all have what root may do: changing the uid takes
// some of it away for a while.
func threadsAreRoot(t *testing.T) {
	t.Helper()
	permitted := -1
	all, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	for _, path := range all {
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		caps, err := number(b, "CapEff", 0, 16)
		if permitted < 0 {
			permitted = caps
		}
		if err != nil || caps != permitted {
			t.Errorf("%s: capabilities %#x, another thread's are %#x, %v", path, caps, permitted, err)
		}
		for _, key := range []string{"Uid", "Gid"} {
			if id, err := number(b, key, 3, 10); err != nil || id != 0 {
				t.Errorf("%s: %s %d, %v", path, key, id, err)
			}
		}
	}
}

// TestIdentity sees that a thread is what it was after it was another.
func TestIdentity(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another")
	}
	var inside [2]int
	err := as(identity{uid: nobody, gid: nobody + 1}, func() error {
		inside[0], _ = unix.SetfsuidRetUid(-1)
		inside[1], _ = unix.SetfsgidRetGid(-1)
		return fmt.Errorf("what it returned: %w", unix.EDOM)
	})
	if inside != [2]int{nobody, nobody + 1} || !errors.Is(err, unix.EDOM) {
		t.Errorf("%v, %v", inside, err)
	}
	threadsAreRoot(t)
	if v, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); v != 1 {
		t.Errorf("dumpable %d", v)
	}
}

// TestIdentityRefused has a holder that may not become another.
func TestIdentityRefused(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may")
	}
	if err := as(identity{uid: 1, gid: 1}, func() error { return nil }); !errors.Is(err, unix.EPERM) {
		t.Errorf("%v, want EPERM", err)
	}
}

// TestRaises: a program that no_new_privs would take something from goes without the filter, where that needs it.
func TestRaises(t *testing.T) {
	if privileged(t) || noNewPrivs() {
		t.Skip("the filter needs no no_new_privs here, or has it")
	}
	if info, err := os.Stat("/bin/su"); err != nil || info.Mode()&os.ModeSetuid == 0 {
		t.Skip("there is no program here that is setuid")
	}
	for _, command := range [][]string{{"/bin/su", "--version"}, {"su", "--version"}} {
		var started error
		told := received(t, func(child int) {
			started = startBehind(FilterOptions{}.Filter(child, true), command...)
			unix.Close(child)
		})
		for _, err := range []error{started, told} {
			if !errors.Is(err, unix.EPERM) || !strings.Contains(fmt.Sprint(err), "setuid, which no_new_privs would take from it") {
				t.Errorf("%q: %v", command, err)
			}
		}
	}
}
