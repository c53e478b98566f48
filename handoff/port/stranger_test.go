package port

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStranger: who may join the group of a held port, and with it take what is meant for the generations: processes of
// the same uid, since the kernel goes by that, and nobody else (docs/security.md).
func TestStranger(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make sockets of others")
	}
	for name, listen := range specs(t, "tcp", "udp") {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			must(t, p.Open(1))
			err := joinAs(t, p, 61_300)
			if !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("another user joins the group: %v", err)
			}
			if err := joinAs(t, p, 0); err != nil {
				t.Errorf("the same user does not: %v: the threat model says that it could", err)
			}
		})
	}
}

// joinAs binds a socket of uid's to the port, as a group member, and makes it listen.
func joinAs(t *testing.T, p *Port, uid int) error {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends, and with it its uid
		_ = unix.Setfsuid(uid)
		done <- join(p)
	}()
	return <-done
}

func join(p *Port) error {
	addr := p.address()
	fd, err := unix.Socket(family(addr), kind(p.spec), 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := prepare(fd, p.spec, addr, groupOptions(p.spec)); err != nil {
		return err
	}
	if p.spec.Network == "tcp" {
		return unix.Listen(fd, 1)
	}
	return nil
}
