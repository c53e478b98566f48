// Package control is how a command in the container reaches the holdfast that runs there, and nobody else can: both ends
// know by the kernel's word (SO_PEERCRED) who the other one is, before a byte is read.
//
// It is HTTP/1.1 over an abstract unix stream socket, which needs no writable path and leaves nothing behind. All
// containers of a pod share the abstract names, since these belong to the network namespace; so the name has the PID
// namespace in it, and a peer that comes from another one is turned away.
//
// What the peer may do once it is let in, it could do without: it has the uid of holdfast, or root's, in the same PID
// namespace, and could send it SIGHUP.
package control

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// space is what the names of all control sockets of one PID namespace begin with. The @ stands for the NUL byte of an
// abstract name.
type space string

// here is the space of this process; both ends find the same, as they see the same /proc, or none.
func here() space { return space("@holdfast/" + pidNamespace() + "/") }

func (s space) name(pid int) string { return fmt.Sprintf("%s%d", s, pid) }

func pidNamespace() string {
	link, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "0"
	}
	return strings.Trim(link, "pid:[]")
}

// Listen opens the control socket of the holdfast with this PID, which is the caller's own. Only peers that may control
// it come out of Accept.
func Listen(pid int) (net.Listener, error) {
	l, err := here().listen(pid)
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (s space) listen(pid int) (*listener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.name(pid), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	return &listener{UnixListener: l, slots: make(chan struct{}, maxConns)}, nil
}
