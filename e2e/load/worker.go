package load

import (
	"bufio"
	"errors"
	"net"
	"syscall"
	"time"
)

// worker makes one request after the other.
type worker struct {
	load     *Load
	kind     Kind
	started  bool
	intended time.Time
	conn     net.Conn // the connection kept for the next request; nil = none
	in       *bufio.Reader
}

func (w *worker) close() {
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}

// request makes one request and says what became of it.
func (w *worker) request() Request {
	r := Request{Kind: w.kind, Intended: w.intended}
	deadline := time.Now().Add(w.load.opts.Timeout)
	if w.conn != nil && closedByPeer(w.conn) {
		// The server closed it while it was idle, and this side knew before it wrote anything.
		r.Reopened = true
		w.close()
	}
	if w.conn != nil {
		r.Reused = true
		r.Connect = time.Now()
		r.Connected = r.Connect
		begun, err := w.exchange(&r, deadline)
		if err == nil || begun || !closedUnanswered(err) {
			return w.finish(r, begun, err)
		}
		r.Retried, r.Reused, r.Cause = true, false, err.Error()
		w.close()
	}
	r.Phase = PhaseConnect
	r.Connect, r.Connected = time.Now(), time.Time{}
	r.dials++
	conn, err := dial(w.load.opts.Network, w.load.opts.Address, deadline)
	if err != nil {
		return w.finish(r, false, err)
	}
	r.Connected = time.Now()
	w.conn, w.in = conn, bufio.NewReader(conn)
	begun, err := w.exchange(&r, deadline)
	return w.finish(r, begun, err)
}

func (w *worker) finish(r Request, begun bool, err error) Request {
	r.Answered = time.Now()
	r.Outcome = outcomeOf(err, begun)
	if err != nil {
		r.Error = err.Error()
	} else {
		r.Phase = PhaseDone
	}
	if err != nil || w.kind == NewConnection {
		w.close()
	}
	return r
}

// exchange makes the request on the worker's connection; begun is whether any byte of the answer came.
func (w *worker) exchange(r *Request, deadline time.Time) (begun bool, err error) {
	if err := w.conn.SetDeadline(deadline); err != nil {
		return false, err
	}
	t := Talk{Conn: w.conn, In: w.in, First: !r.Reused, Last: w.kind == NewConnection}
	err = w.load.opts.Protocol.Request(&t)
	r.Phase, r.Generation = t.Phase, t.Generation
	if err == nil && t.Closing {
		w.close()
	}
	return t.Begun, err
}

// dial connects. A unix socket whose queue is full answers EAGAIN to a connect that does not block, where one that
// blocks would wait (and TCP's does); so it waits.
func dial(network, address string, deadline time.Time) (net.Conn, error) {
	for {
		d := net.Dialer{Deadline: deadline}
		conn, err := d.Dial(network, address)
		if !errors.Is(err, syscall.EAGAIN) || time.Now().After(deadline) {
			return conn, err
		}
		time.Sleep(time.Millisecond)
	}
}

// closedByPeer looks, without waiting and without taking anything, whether an idle connection has been closed. Bytes
// that nobody asked for also make it unusable.
func closedByPeer(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		closed = !errors.Is(err, syscall.EAGAIN)
	})
	return closed || err != nil
}
