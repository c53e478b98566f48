package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// UDPOptions says what load of datagrams to make. Only Address is required.
type UDPOptions struct {
	Address string
	Workers int           // 4 by default
	Think   time.Duration // between two requests of a worker; 2ms by default, negative for none
	Timeout time.Duration // after which a datagram counts as lost; 1s by default
	// SameSocket makes a worker keep one socket, and so one source port, for all its requests.
	SameSocket bool
	Duration   time.Duration // 5 minutes by default

	MaxFailures int // as in Options
	MaxRecords  int
}

// UDPLoad sends datagrams "ID n" and expects for each one that begins with the same "ID n" and holds "generation=N". A
// datagram with no answer in time counts as Timeout, one answered by ICMP as Refused.
type UDPLoad struct {
	opts    UDPOptions
	rec     *recorder
	stop    chan struct{}
	once    sync.Once
	workers sync.WaitGroup
}

// NewUDP prepares a load of datagrams.
func NewUDP(o UDPOptions) *UDPLoad {
	setDefault(&o.Workers, 4)
	setDefault(&o.Think, 2*time.Millisecond)
	setDefault(&o.Timeout, time.Second)
	setDefault(&o.Duration, 5*time.Minute)
	setDefault(&o.MaxFailures, 20)
	setDefault(&o.MaxRecords, 500_000)
	return &UDPLoad{opts: o, rec: newRecorder(o.MaxFailures, o.MaxRecords), stop: make(chan struct{})}
}

// Start starts the workers; they end with ctx, with Stop or after Duration.
func (l *UDPLoad) Start(ctx context.Context) {
	start := time.Now()
	l.rec.begin(start)
	ctx, cancel := context.WithDeadline(ctx, start.Add(l.opts.Duration))
	for id := range l.opts.Workers {
		l.workers.Go(func() { l.work(ctx, id) })
	}
	go func() {
		l.workers.Wait()
		cancel()
		l.rec.end(time.Now())
	}()
}

// Snapshot says what happened so far.
func (l *UDPLoad) Snapshot() Result { return l.rec.result() }

// Stop ends the load and returns the final result.
func (l *UDPLoad) Stop() Result {
	l.once.Do(func() { close(l.stop) })
	l.workers.Wait()
	return l.rec.result()
}

// Verify is as Load's, for datagrams.
func (l *UDPLoad) Verify(cutovers []Cutover) []string { return l.rec.verify(cutovers) }

func (l *UDPLoad) work(ctx context.Context, id int) {
	var conn net.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	for n := 0; ; n++ {
		var pause <-chan time.Time
		if l.opts.Think > 0 {
			pause = time.After(l.opts.Think)
		}
		select {
		case <-ctx.Done():
			return
		case <-l.stop:
			return
		default:
		}
		q := Request{Kind: Datagram, Intended: time.Now(), Phase: PhaseConnect}
		q.Connect = q.Intended
		var err error
		if conn == nil {
			q.dials = 1
			conn, err = net.Dial("udp", l.opts.Address)
		}
		if err == nil {
			q.Connected = time.Now()
			err = l.exchange(conn, &q, "ID "+strconv.Itoa(id)+"."+strconv.Itoa(n))
		}
		q.Answered = time.Now()
		q.Outcome = outcomeOf(err, false)
		if err != nil {
			q.Error = err.Error()
		}
		l.rec.add(q)
		if conn != nil && !l.opts.SameSocket {
			_ = conn.Close()
			conn = nil
		}
		if pause != nil {
			select {
			case <-pause:
			case <-ctx.Done():
			case <-l.stop:
			}
		}
	}
}

func (l *UDPLoad) exchange(conn net.Conn, q *Request, id string) error {
	if err := conn.SetDeadline(q.Intended.Add(l.opts.Timeout)); err != nil {
		return err
	}
	q.Phase = PhaseWrite
	if _, err := conn.Write([]byte(id + "\n")); err != nil {
		return err
	}
	q.Phase = PhaseHead
	buf := make([]byte, 2048)
	for {
		n, err := conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("no answer to %q: %w", id, err)
		}
		if err != nil {
			return err
		}
		rest, ok := bytes.CutPrefix(buf[:n], []byte(id))
		if !ok || len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9' {
			l.rec.late() // an answer to an earlier one, already counted as lost
			continue
		}
		if q.Generation, err = generationIn(rest); err != nil {
			return fmt.Errorf("%w: %w", ErrBad, err)
		}
		q.Phase = PhaseDone
		return nil
	}
}
