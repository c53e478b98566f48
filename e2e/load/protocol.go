package load

import (
	"bufio"
	"net"
)

// Protocol is what a load speaks on its connections; HTTP when Options names none. One value serves all workers.
type Protocol interface {
	// Request makes one request, reads its answer and judges it. An answer that is whole and wrong is an error that wraps
	// ErrBad; errors of reading and writing go up as they are, since their kind is the outcome.
	Request(t *Talk) error
}

// Talk is one request on one connection: what the protocol needs to know of it, and what it has to tell.
type Talk struct {
	Conn net.Conn      // its deadline is set; write to it
	In   *bufio.Reader // read from it
	// First is whether the connection has just been opened, Last whether it is closed after this request.
	First, Last bool

	// Phase is how far the request is; Request keeps it up to date.
	Phase Phase
	// Begun is set by Request when the first byte of an answer is there: from then on the request is never repeated.
	Begun bool
	// Closing is set by Request when the server has said that it closes the connection.
	Closing bool
	// Generation is the one that answered; 0 where the protocol has no way to tell.
	Generation int
}

// send writes b and waits for the first byte of what the server says to it.
func (t *Talk) send(b []byte) error {
	t.Phase = PhaseWrite
	if len(b) > 0 {
		if _, err := t.Conn.Write(b); err != nil {
			return err
		}
	}
	t.Phase = PhaseHead
	_, err := t.In.Peek(1)
	return err
}

// http is the protocol by default.
type http struct {
	path, host string
	generation func(Answer) (int, error)
}

func (h http) Request(t *Talk) error {
	head := "GET " + h.path + " HTTP/1.1\r\nHost: " + h.host + "\r\n"
	if t.Last {
		head += "Connection: close\r\n"
	}
	if err := t.send([]byte(head + "\r\n")); err != nil {
		return err
	}
	t.Begun = true
	a, err := readAnswer(t.In, &t.Phase)
	if err != nil {
		return err
	}
	t.Closing = !a.keep
	t.Generation, err = h.generation(a)
	if a.Status != 200 || err != nil {
		return badAnswer(a, err)
	}
	return nil
}
