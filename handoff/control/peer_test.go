package control

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func nobody() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

func TestNoServer(t *testing.T) {
	for _, dial := range []func() (*Client, error){
		own(t).find,
		func() (*Client, error) { return own(t).dial(os.Getpid()) },
	} {
		_, err := dial()
		if !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "kubectl exec") {
			t.Errorf("got %v", err)
		}
	}
}

// A process that took the name of another one is found out.
func TestWrongPID(t *testing.T) {
	s := own(t)
	l, err := s.listen(os.Getppid())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want := fmt.Sprintf("connect to pid %d: its control socket belongs to pid %d", os.Getppid(), os.Getpid())
	if _, err := s.dial(os.Getppid()); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestFindPassesOverImposters(t *testing.T) {
	s := own(t)
	for _, pid := range []int{1, os.Getppid(), os.Getpid()} {
		l, err := s.listen(pid)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	if c, err := s.find(); err != nil || c.PID() != os.Getpid() {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestFindNamesTheImposterWhenThereIsNothingElse(t *testing.T) {
	s := own(t)
	l, err := s.listen(1)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := s.find(); !isImposter(err) {
		t.Errorf("got %v", err)
	}
}

func TestSeveralServers(t *testing.T) {
	s := own(t)
	var want []int
	for i := range 2 {
		pid, line := peer(t, "serve", s, nil)
		if line != "listening" {
			t.Fatal(line)
		}
		want = append(want, pid)
		c, err := s.find()
		if i == 0 {
			checkAnswers(t, c, err, pid)
			continue
		}
		slices.Sort(want)
		text := fmt.Sprintf("find holdfast: 2 run here: say which with --pid %d, --pid %d", want[0], want[1])
		if err == nil || err.Error() != text {
			t.Errorf("got %v", err)
		}
	}
	c, err := s.dial(want[1])
	checkAnswers(t, c, err, want[1])
}

func checkAnswers(t *testing.T, c *Client, err error, pid int) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Reload(t.Context(), true); err != nil || got.Generation != pid {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestOtherUserIsRefused(t *testing.T) {
	needRoot(t)
	s := own(t)
	served(t, s, Handler{Probes: noProbes, Reload: answerPID}, defaultLimits())
	if _, line := peer(t, "knock", s, nil); line == "0 bytes" || !strings.HasSuffix(line, " bytes") {
		t.Errorf("root got %q", line)
	}
	if _, line := peer(t, "knock", s, nobody()); line != "0 bytes" {
		t.Errorf("nobody got %q", line)
	}
	_, line := peer(t, "dial", s, nobody())
	if want := fmt.Sprintf("connect to pid %d: it runs as uid 0 and obeys only that and root, not uid 65534", os.Getpid()); line != want {
		t.Errorf("nobody was told %q", line)
	}
}

func TestRootMayControlAnyUsers(t *testing.T) {
	needRoot(t)
	s := own(t)
	pid, line := peer(t, "serve", s, nobody())
	if line != "listening" {
		t.Fatal(line)
	}
	c, err := s.dial(pid)
	checkAnswers(t, c, err, pid)
}

// The server is PID 1 of a PID namespace of its own, as in a container; the test is outside and so shows as PID 0.
func TestOtherPIDNamespaceIsRefused(t *testing.T) {
	needRoot(t)
	pid, line := peer(t, "serve here", "", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID})
	if line != "listening" {
		t.Fatal(line)
	}
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		t.Fatal(err)
	}
	theirs := space("@holdfast/" + strings.Trim(link, "pid:[]") + "/")
	if theirs == here() {
		t.Fatal("both are in one PID namespace")
	}
	if answer, err := knock(theirs.name(1)); answer != "" || err != nil {
		t.Errorf("got %q, %v", answer, err)
	}
	if _, err := theirs.dial(1); !isImposter(err) {
		t.Errorf("dialled from outside: %v", err)
	}
}

func TestParse(t *testing.T) {
	const table = `Num       RefCount Protocol Flags    Type St Inode Path
00000000411deff7: 00000003 00000000 00000000 0001 03  1126
0000000000000000: 00000002 00000000 00010000 0001 01  2001 @holdfast/42/7
0000000000000000: 00000003 00000000 00000000 0001 03  2002 @holdfast/42/9
0000000000000000: 00000002 00000000 00010000 0001 01  2003 @holdfast/43/8
0000000000000000: 00000002 00000000 00010000 0001 01  2004 @holdfast/42/x
0000000000000000: 00000002 00000000 00010000 0001 01  2005 @holdfast/42/-3
0000000000000000: 00000002 00000000 00010000 0001 01  2006 @holdfast/42/1
0000000000000000: 00000002 00000000 00010000 0001 01  2007 @holdfast/42/7
0000000000000000: 00000002 00000000 00010000 0001 01  2008 /run/a socket
`
	if got := parse([]byte(table), "@holdfast/42/"); !slices.Equal(got, []int{1, 7}) {
		t.Errorf("got %v", got)
	}
}
