package load

import (
	"bytes"
	"fmt"
	"io"
)

// Plain is a protocol of fixed words, as many have for their first exchange: memcached's version, Redis' PING, SSH's
// banner, MQTT's CONNECT. Hello is the exchange that opens a connection, Each the one of every request; a Plain without
// Each opens, reads the greeting, and has nothing more to ask.
type Plain struct {
	Hello, Each Step
}

// Step sends Send (which may be empty: the server speaks first) and expects an answer that begins with Want.
type Step struct {
	Send, Want string
	// Line is whether the answer goes on to the end of its line; else it is just as long as Want.
	Line bool
}

// Request implements Protocol. What a greeting says is not yet an answer: a request whose connection ends after the
// greeting alone has not been begun.
func (p Plain) Request(t *Talk) error {
	if t.First && p.Hello != (Step{}) {
		if err := p.Hello.exchange(t); err != nil {
			return err
		}
	}
	if p.Each == (Step{}) {
		t.Begun = true
		return nil
	}
	t.Begun = false
	return p.Each.exchange(t)
}

func (s Step) exchange(t *Talk) error {
	if err := t.send([]byte(s.Send)); err != nil {
		return err
	}
	t.Begun, t.Phase = true, PhaseBody
	got, err := s.answer(t)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(got, []byte(s.Want)) {
		return fmt.Errorf("%w: %.60q to %.60q, want %q", ErrBad, got, s.Send, s.Want)
	}
	return nil
}

func (s Step) answer(t *Talk) ([]byte, error) {
	if s.Line {
		left := maxHead
		line, err := readLine(t.In, &left)
		return []byte(line), err
	}
	got := make([]byte, len(s.Want))
	_, err := io.ReadFull(t.In, got)
	return got, err
}
