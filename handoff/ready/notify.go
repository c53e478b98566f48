package ready

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// NotifySocket is where one generation says that it is ready (sd_notify(3)). Its name is abstract, since there may be no
// directory to write to; every process in the network namespace can reach it, which is why a sender is known by the
// credentials that the kernel attaches, not by knowing the name.
type NotifySocket struct {
	// Name is the value of NOTIFY_SOCKET.
	Name string
	conn *net.UnixConn
	done sync.WaitGroup
}

// Notification is one datagram's meaning.
type Notification struct {
	PID    int    // of the sender, in this PID namespace; 0 = a process that is not in it
	UID    int    // of the sender
	Ready  bool   // READY=1
	Status string // STATUS=…
	// MainPID is the process that is to be the main one, in the sender's PID namespace (MAINPID=…); 0 = not said.
	MainPID int
	Extend  time.Duration // EXTEND_TIMEOUT_USEC=…
	fds     []int
}

// Release closes the descriptors that came along. With BARRIER=1 that is what the sender waits for: call it when the
// notification has been dealt with.
func (n Notification) Release() {
	for _, fd := range n.fds {
		unix.Close(fd)
	}
}

// ListenNotify opens the socket and calls receive, from a goroutine of its own, for each datagram. receive must see to it
// that Release is called.
func ListenNotify(receive func(Notification)) (*NotifySocket, error) {
	name := "@holdfast/notify/" + rand.Text()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("open the notify socket: %w", err)
	}
	if err := passCredentials(conn); err != nil {
		conn.Close()
		return nil, fmt.Errorf("open the notify socket: %w", err)
	}
	s := &NotifySocket{Name: name, conn: conn}
	s.done.Go(func() { s.read(receive) })
	return s, nil
}

// Echo sends this process' own datagram through the socket: when receive gets it, it has had all that was sent before.
func (s *NotifySocket) Echo() error {
	conn, err := net.DialUnix("unixgram", nil, s.conn.LocalAddr().(*net.UnixAddr))
	if err != nil {
		return fmt.Errorf("reach the notify socket: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("\n")); err != nil {
		return fmt.Errorf("reach the notify socket: %w", err)
	}
	return nil
}

// Close ends the goroutine and closes the socket.
func (s *NotifySocket) Close() {
	s.conn.Close()
	s.done.Wait()
}

func passCredentials(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) }); err != nil {
		return err
	}
	return set
}

// maxDescriptors is SCM_MAX_FD, the most that one datagram can carry (unix(7)).
const maxDescriptors = 253

func (s *NotifySocket) read(receive func(Notification)) {
	text := make([]byte, 4096) // as systemd's own buffer
	control := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4*maxDescriptors))
	for {
		n, c, flags, _, err := s.conn.ReadMsgUnix(text, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		notification := parseControl(control[:c])
		if flags&unix.MSG_TRUNC != 0 { // half a message could mean something else; systemd ignores it too
			notification.Release()
			continue
		}
		parseNotification(string(text[:n]), &notification)
		receive(notification)
	}
}

// parseNotification reads KEY=value lines; unknown keys mean nothing.
func parseNotification(text string, n *Notification) {
	for line := range strings.SplitSeq(text, "\n") {
		key, value, _ := strings.Cut(line, "=")
		switch key {
		case "READY":
			n.Ready = value == "1"
		case "STATUS":
			n.Status = printable(value)
		case "MAINPID":
			if pid, err := strconv.ParseUint(value, 10, 31); err == nil {
				n.MainPID = int(pid)
			}
		case "EXTEND_TIMEOUT_USEC":
			if usec, err := strconv.ParseUint(value, 10, 42); err == nil {
				n.Extend = time.Duration(usec) * time.Microsecond
			}
		}
	}
}

// printable keeps a status line from being more than one line, or more than a line.
func printable(text string) string {
	const most = 200
	var b strings.Builder
	for _, r := range text {
		if b.Len() >= most {
			break
		}
		if !unicode.IsPrint(r) { // what could be taken for a terminal's command
			r = ' '
		}
		b.WriteRune(r)
	}
	return b.String()
}

// parseControl reads who sent it and takes the descriptors that came along. Without credentials PID stays 0: nobody's.
func parseControl(control []byte) Notification {
	var n Notification
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return n
	}
	for i := range messages {
		// The kernel's are whole. Others the parsers would read beyond the end, or panic: this is PID 1.
		if len(messages[i].Data) >= unix.SizeofUcred {
			if credentials, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
				n.PID, n.UID = int(credentials.Pid), int(credentials.Uid)
			}
		}
		if len(messages[i].Data)%4 != 0 {
			continue
		}
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			n.fds = append(n.fds, fds...)
		}
	}
	return n
}
