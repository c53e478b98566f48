package load

import (
	"fmt"
	"math/rand/v2"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS asks for the address of Name, which must end with a dot, once a request; Options.Network is "udp". A "new" worker
// asks each time from a socket, and so a source port, of its own, a "keep-alive" worker always from the same one.
//
// A query without an answer counts as a timeout at once: a resolver would ask again, and hide what was lost.
type DNS struct{ Name string }

// Request implements Protocol.
func (d DNS) Request(t *Talk) error {
	id := uint16(rand.Uint32())
	query, err := d.query(id)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBad, err)
	}
	t.Phase = PhaseWrite
	if _, err := t.Conn.Write(query); err != nil {
		return err
	}
	t.Phase = PhaseHead
	buf := make([]byte, 4096)
	for {
		n, err := t.Conn.Read(buf) // one datagram; t.In could join two
		if err != nil {
			return err
		}
		var p dnsmessage.Parser
		h, err := p.Start(buf[:n])
		if err == nil && h.ID != id {
			continue // the answer to an earlier one, counted as lost
		}
		t.Begun = true
		return d.judge(&p, h, err)
	}
}

func (d DNS) query(id uint16) ([]byte, error) {
	name, err := dnsmessage.NewName(d.Name)
	if err != nil {
		return nil, err
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	return m.Pack()
}

func (d DNS) judge(p *dnsmessage.Parser, h dnsmessage.Header, err error) error {
	if err == nil {
		err = p.SkipAllQuestions()
	}
	if err != nil {
		return fmt.Errorf("%w: no DNS message: %w", ErrBad, err)
	}
	answers, err := p.AllAnswers()
	if err != nil || !h.Response || h.RCode != dnsmessage.RCodeSuccess || len(answers) == 0 {
		return fmt.Errorf("%w: %v, %d answers, %v", ErrBad, h.RCode, len(answers), err)
	}
	return nil
}
