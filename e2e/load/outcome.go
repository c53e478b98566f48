package load

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Kind is whether a request had a connection of its own.
type Kind string

// The kinds of requests.
const (
	NewConnection Kind = "new"
	KeepAlive     Kind = "keep-alive"
	Datagram      Kind = "datagram"
)

// Outcome is what became of a request.
type Outcome string

// The outcomes of a request. All but OK are losses.
const (
	OK      Outcome = "ok"
	Refused Outcome = "refused" // nobody listened: ECONNREFUSED, or no socket at a unix path
	Reset   Outcome = "reset"   // RST, or writing into a connection that was closed
	Timeout Outcome = "timeout" // no whole answer within Options.Timeout
	EOF     Outcome = "eof"     // closed without one byte of an answer, and the request must not be repeated
	Bad     Outcome = "bad"     // a whole answer, but not 200, not HTTP, or without a generation
	Short   Outcome = "short"   // closed in the midst of an answer
	// Local is trouble on this side, as when no local port or descriptor is left. It counts as a loss because a load
	// that was not made proves nothing.
	Local Outcome = "local"
)

// Outcomes lists every outcome, OK first.
func Outcomes() []Outcome {
	return []Outcome{OK, Refused, Reset, Timeout, EOF, Bad, Short, Local}
}

// Phase is how far a request came.
type Phase string

// The phases of a request.
const (
	PhaseConnect Phase = "connect"
	PhaseWrite   Phase = "write"
	PhaseHead    Phase = "head" // waiting for the answer, or in its head
	PhaseBody    Phase = "body"
	PhaseDone    Phase = "done"
)

// Request is one request and what became of it.
type Request struct {
	Kind       Kind      `json:"kind"`
	Intended   time.Time `json:"intended"`           // when it should have started
	Connect    time.Time `json:"connect"`            // when connecting began; on a re-used connection: when writing began
	Connected  time.Time `json:"connected,omitzero"` // when the connection was there
	Answered   time.Time `json:"answered,omitzero"`  // when the whole answer was, or it had failed
	Reused     bool      `json:"reused,omitempty"`   // it was written to a connection that was used before
	Retried    bool      `json:"retried,omitempty"`  // it was repeated on a new connection
	Cause      string    `json:"cause,omitempty"`    // how the first attempt ended, of one that was repeated
	Reopened   bool      `json:"reopened,omitempty"` // its connection was found closed before anything was written
	Generation int       `json:"generation,omitempty"`
	Outcome    Outcome   `json:"outcome"`
	Phase      Phase     `json:"phase"`
	Error      string    `json:"error,omitempty"`
	dials      int
}

// Latency counts from the instant the request should have started.
func (r Request) Latency() time.Duration { return r.Answered.Sub(r.Intended) }

// ErrBad marks an answer that came whole but is not the right one.
var ErrBad = errors.New("bad answer")

// outcomeOf classifies err; begun says that a part of the answer had been read.
func outcomeOf(err error, begun bool) Outcome {
	var ne net.Error
	switch {
	case err == nil:
		return OK
	case errors.Is(err, ErrBad):
		return Bad
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return Timeout
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return Refused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED):
		return Reset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		if begun {
			return Short
		}
		return EOF
	}
	return Local
}

// closedUnanswered is whether err is what a client sees when the server closed an idle connection while the request
// was on its way.
func closedUnanswered(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
