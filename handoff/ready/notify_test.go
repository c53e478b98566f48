package ready_test

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/handoff/ready"
)

const patience = 90 * time.Second

// TestMain lets this binary be a process that notifies: "notify SOCKET TEXT".
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "notify" {
		conn, err := net.Dial("unixgram", os.Args[2])
		if err == nil {
			_, err = conn.Write([]byte(os.Args[3]))
		}
		if err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// listen opens a notify socket and returns it with what it receives.
func listen(t *testing.T) (*ready.NotifySocket, <-chan ready.Notification) {
	t.Helper()
	received := make(chan ready.Notification, 100)
	s, err := ready.ListenNotify(func(n ready.Notification) { received <- n })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, received
}

func send(t *testing.T, s *ready.NotifySocket, text string, fds ...int) {
	t.Helper()
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(socket, []byte(text), rights, &unix.SockaddrUnix{Name: s.Name}, 0); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, received <-chan ready.Notification) ready.Notification {
	t.Helper()
	select {
	case n := <-received:
		return n
	case <-time.After(patience):
		t.Fatal("no notification")
		return ready.Notification{}
	}
}

func TestNotifySocket(t *testing.T) {
	s, received := listen(t)
	if !strings.HasPrefix(s.Name, "@") || strings.ContainsAny(s.Name, "\x00 \n") {
		t.Errorf("name %q", s.Name)
	}
	for _, c := range []struct {
		text   string
		ready  bool
		status string
	}{
		{"READY=1\nSTATUS=on it", true, "on it"},
		{"STATUS=still", false, "still"},
		{"", false, ""},
		{"\x00\xff\n\n==\nREADY", false, ""},
		{"READY=1\n" + strings.Repeat("x", 4096-8), true, ""},
	} {
		send(t, s, c.text)
		n := receive(t, received)
		if n.PID != os.Getpid() || n.UID != os.Getuid() || n.Ready != c.ready || n.Status != c.status {
			t.Errorf("%.30q: %+v, want ready %v, status %q, from %d", c.text, n, c.ready, c.status, os.Getpid())
		}
		n.Release()
	}
}

// TestNotifySender: the kernel says who it was, even when that one is gone.
func TestNotifySender(t *testing.T) {
	s, received := listen(t)
	cmd := exec.Command(os.Args[0], "notify", s.Name, "READY=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if n := receive(t, received); n.PID != cmd.Process.Pid || !n.Ready {
		t.Errorf("got %+v, want pid %d", n, cmd.Process.Pid)
	}
}

// TestNotifyOversize: half a message is none, and costs no descriptor; the socket goes on.
func TestNotifyOversize(t *testing.T) {
	s, received := listen(t)
	read, write := pipe(t)
	send(t, s, "READY=1\nSTATUS="+strings.Repeat("x", 10000), write)
	unix.Close(write)
	send(t, s, "STATUS=after")
	if n := receive(t, received); n.Ready || n.Status != "after" {
		t.Errorf("got %+v, want the message after the oversize one", n)
	}
	closed(t, read)
}

// TestNotifyBarrier: a sender that waits for its descriptor to close waits until Release.
func TestNotifyBarrier(t *testing.T) {
	s, received := listen(t)
	read, write := pipe(t)
	send(t, s, "BARRIER=1", write, write)
	unix.Close(write)
	n := receive(t, received)
	poll := []unix.PollFd{{Fd: int32(read)}}
	if _, err := unix.Poll(poll, 0); err != nil || poll[0].Revents != 0 {
		t.Errorf("closed before Release: %v, events %#x", err, poll[0].Revents)
	}
	n.Release()
	closed(t, read)
}

// TestNotifyClose: Close ends the goroutine, and what is sent then goes nowhere.
func TestNotifyClose(t *testing.T) {
	s, received := listen(t)
	s.Close()
	if out, err := exec.Command(os.Args[0], "notify", s.Name, "READY=1").CombinedOutput(); err == nil || !strings.Contains(string(out), "refused") {
		t.Errorf("the socket still takes messages: %v, %s", err, out)
	}
	select {
	case n := <-received:
		t.Errorf("received %+v", n)
	default:
	}
}

func pipe(t *testing.T) (read, write int) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]) })
	return fds[0], fds[1]
}

// closed waits until nobody has the other end any more.
func closed(t *testing.T, read int) {
	t.Helper()
	poll := []unix.PollFd{{Fd: int32(read)}}
	if n, err := unix.Poll(poll, int(patience.Milliseconds())); err != nil || n != 1 || poll[0].Revents != unix.POLLHUP {
		t.Errorf("the descriptor stays open: %d, %v, events %#x", n, err, poll[0].Revents)
	}
}
