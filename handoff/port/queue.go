package port

import (
	"golang.org/x/sys/unix"
)

// A Queue is a reading of what waits for one generation, over all its sockets.
type Queue struct {
	Generation int
	Length     int // connections that wait to be accepted; for UDP: bytes of memory that waiting datagrams take
	Max        int // how many there can be; 0 = not known
}

// Pending says whether something waits for generation gen: a connection to be accepted, a datagram to be read.
func (p *Port) Pending(gen int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.gens[gen] {
		if !s.left && waiting(s.fd) {
			return true
		}
	}
	return false
}

// Queues reads the queue of every generation that has a socket, in the order of their numbers. Generations that share a
// socket have the same reading.
func (p *Port) Queues() []Queue {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Queue, 0, len(p.gens))
	for _, gen := range p.generations() {
		q := Queue{Generation: gen}
		for _, s := range p.gens[gen] {
			length, limit := p.queue(s)
			q.Length, q.Max = q.Length+length, q.Max+limit
		}
		all = append(all, q)
	}
	return all
}

func (p *Port) queue(s *socket) (length, limit int) {
	switch p.spec.Network {
	case "tcp":
		return acceptQueue(s.fd)
	case "udp":
		return receiveQueue(s.fd)
	}
	if length, limit, err := unixQueue(s.fd); err == nil {
		return length, limit
	}
	if waiting(s.fd) {
		return 1, 0
	}
	return 0, 0
}

// receiveQueue is how much of a UDP socket's receive buffer is taken and how large it is, in bytes of the kernel's
// memory, which is more than the datagrams' own. SO_MEMINFO's (Linux 4.12) first word is the former.
func receiveQueue(fd int) (length, limit int) {
	length, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MEMINFO)
	if err != nil {
		return 0, 0
	}
	limit, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return length, 0
	}
	return length, limit
}
