package reaper

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Stderr writes whole lines to a descriptor without ever holding up the writer and without ever ending the process: a log
// reader that is slow costs lines, one that is gone costs all of them, and neither may cost the container. (Go itself
// ends a program whose write to descriptor 2 gets EPIPE while SIGPIPE is not caught.)
type Stderr struct {
	fd    int
	lost  atomic.Uint64
	ended chan struct{} // closed when the last line has been written

	mu     sync.Mutex // of the two below: some still log while main closes
	closed bool
	lines  chan []byte
}

// stderrLines is how many lines may wait for a slow reader.
const stderrLines = 512

// NewStderr writes to fd, which stays the caller's, from a goroutine of its own until Close.
func NewStderr(fd int) *Stderr {
	s := &Stderr{fd: fd, lines: make(chan []byte, stderrLines), ended: make(chan struct{})}
	go s.run()
	return s
}

// Write takes one line; it never fails and never waits. After Close it takes none.
func (s *Stderr) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return len(line), nil
	}
	select {
	case s.lines <- append([]byte(nil), line...):
	default:
		s.lost.Add(1)
	}
	return len(line), nil
}

// Close waits until what was taken has been written, or for at most d. Goroutines that do not know yet that it is over
// may go on writing: it is dropped.
func (s *Stderr) Close(d time.Duration) {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.lines)
	}
	s.mu.Unlock()
	select {
	case <-s.ended:
	case <-time.After(d):
	}
}

func (s *Stderr) run() {
	defer close(s.ended)
	for line := range s.lines {
		// Lines are lost only while the queue is full: there is always one more to tell it before.
		if n := s.lost.Swap(0); n > 0 {
			s.write(fmt.Appendf(nil, "holdfast: %d log lines were lost: nobody read them in time\n", n))
		}
		s.write(line)
	}
}

func (s *Stderr) write(b []byte) {
	for len(b) > 0 {
		n, err := unix.Write(s.fd, b)
		switch {
		case err == nil:
			b = b[n:]
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			// Somebody who shares the descriptor has made it non-blocking.
			unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}, -1)
		default: // EPIPE: nobody reads any more
			return
		}
	}
}
