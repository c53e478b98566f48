package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"
)

// Dial finds the holdfast with this PID, or with 0 the one that there is, and makes sure that it is the one.
func Dial(pid int) (*Client, error) {
	if pid == 0 {
		return here().find()
	}
	return here().dial(pid)
}

func (s space) dial(pid int) (*Client, error) {
	c, err := s.connect(context.Background(), pid)
	if err != nil {
		return nil, err
	}
	c.Close()
	// A connection is made anew for each request, and each is verified: nothing is kept that could go stale.
	return &Client{pid: pid, http: http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return s.connect(ctx, pid) },
	}}}, nil
}

func (s space) connect(ctx context.Context, pid int) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", s.name(pid))
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("connect to pid %d: %w", pid, ErrNone)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to pid %d: %w", pid, err)
	}
	if err := verify(c.(*net.UnixConn), pid); err != nil {
		c.Close()
		return nil, fmt.Errorf("connect to pid %d: %w", pid, err)
	}
	return c, nil
}

// verify makes sure that it was the process with this PID that opened the socket: in a shared network namespace anybody
// may take a free abstract name. The uid is looked at because a peer that is turned away is not told why.
func verify(c *net.UnixConn, pid int) error {
	server, err := credentials(c)
	switch {
	case err != nil:
		return err
	case int(server.Pid) != pid:
		return imposter(server.Pid)
	case os.Geteuid() != 0 && os.Geteuid() != int(server.Uid):
		return fmt.Errorf("it runs as uid %d and obeys only that and root, not uid %d", server.Uid, os.Geteuid())
	}
	return nil
}

// imposter is the PID of a process that listens under the name of another.
type imposter int

func (e imposter) Error() string {
	if e == 0 {
		return "its control socket belongs to a process of another container"
	}
	return fmt.Sprintf("its control socket belongs to pid %d", int(e))
}

func isImposter(err error) bool {
	var e imposter
	return errors.As(err, &e)
}
