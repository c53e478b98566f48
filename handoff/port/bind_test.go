package port

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// ownSocket is a socket of a program's that has not been bound.
func ownSocket(t *testing.T, spec Spec) (fd int, inode uint64) {
	t.Helper()
	domain := unix.AF_UNIX
	if spec.Network != "unix" {
		domain = family(spec.Addr)
	}
	fd, err := unix.Socket(domain, kind(spec), 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	var stat unix.Stat_t
	must(t, unix.Fstat(fd, &stat))
	return fd, stat.Ino
}

// TestBindOwn binds programs' own sockets in their places, for two generations: the switch leads as with any others.
func TestBindOwn(t *testing.T) {
	for name, listen := range specs(t, "tcp", "udp", "unix") {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			for gen := 1; gen <= 2; gen++ {
				fd, inode := ownSocket(t, p.spec)
				b, err := p.Bind(gen, Own{FD: fd})
				must(t, err)
				if !b.Own() || b.Inode() != inode || b.FD() == fd {
					t.Errorf("own %v, inode %d, descriptor %d; want inode %d on another than %d", b.Own(), b.Inode(), b.FD(), inode, fd)
				}
				must(t, b.Listen())
				serveFD(t, p, gen, fd)
				if gen == 2 {
					verify(t, p, 1)
					must(t, p.ProveAccept(testContext(t), 2))
					must(t, p.Turn(2))
				}
				verify(t, p, gen)
			}
			_, err := p.Retire(1)
			must(t, err)
			verify(t, p, 2)
		})
	}
}

// TestBindOwnFails: after a bind that fails the program's socket is as it was, and can be bound elsewhere.
func TestBindOwnFails(t *testing.T) {
	p, _ := newPort(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	stranger, _ := ownSocket(t, p.spec)
	must(t, unix.Bind(stranger, sockaddr(p.spec.Addr)))
	before := descriptors(t)
	fd, _ := ownSocket(t, p.spec)
	if _, err := p.Bind(1, Own{FD: fd}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("error %v", err)
	}
	must(t, unix.Close(stranger))
	other, _ := ownSocket(t, p.spec) // one that came between the trial and the bind
	must(t, unix.Bind(other, sockaddr(p.spec.Addr)))
	if err := bindOwn(fd, p.spec, p.spec.Addr); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("error %v", err)
	}
	for _, option := range []int{unix.SO_REUSEPORT, unix.SO_REUSEADDR} {
		if v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option); v != 0 || err != nil {
			t.Errorf("option %d is %d, %v", option, v, err)
		}
	}
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	if n := descriptors(t); n > before+1 { // fd, and other in the stranger's place
		t.Errorf("%d descriptors before, %d after", before, n)
	}
}

// TestBindOptions: a socket in the place of a program's gets the program's options, each buffer's size but once.
func TestBindOptions(t *testing.T) {
	for name, listen := range specs(t, "tcp", "udp", "unix") {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			program, _ := ownSocket(t, p.spec)
			must(t, unix.SetsockoptInt(program, unix.SOL_SOCKET, unix.SO_RCVBUF, 20000))
			want, err := unix.GetsockoptInt(program, unix.SOL_SOCKET, unix.SO_RCVBUF)
			must(t, err)
			b, err := p.Bind(1, Own{FD: -1, Nonblock: true, Options: []Option{
				{OptionName{unix.SOL_SOCKET, unix.SO_RCVBUF}, []byte{0x20, 0x4e, 0, 0}},
				{OptionName{unix.SOL_SOCKET, 9999}, []byte{1, 0, 0, 0}}, // what the kernel refuses does no harm
			}})
			must(t, err)
			if got, err := unix.GetsockoptInt(b.FD(), unix.SOL_SOCKET, unix.SO_RCVBUF); got != want || err != nil {
				t.Errorf("SO_RCVBUF %d, %v; want %d", got, err, want)
			}
			if flags, err := unix.FcntlInt(uintptr(b.FD()), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 || b.Own() {
				t.Errorf("flags %#x, %v, own %v", flags, err, b.Own())
			}
			b.Release()
		})
	}
}

// TestBoundConnected tells a client with a port of its own from what may still listen.
func TestBoundConnected(t *testing.T) {
	p, _ := newPort(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	peer, _ := newPort(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	must(t, peer.Open(1))
	b, err := p.Bind(1, Own{FD: -1})
	must(t, err)
	defer b.Release()
	if b.Connected() {
		t.Error("it is connected before its connect")
	}
	must(t, unix.Connect(b.FD(), sockaddr(peer.spec.Addr)))
	if !b.Connected() {
		t.Error("it is not connected")
	}
}
