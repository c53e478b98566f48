// Package subject is the server that the handoffs are measured with: net/http with a fixed amount of work for each request,
// and a shutdown that finishes all that it has accepted. It is the same behind every holder of ports, and in tableflip's
// server, which is in a module of its own.
//
// What it does beside is in variables of the environment: SUBJECT_WORK is how often it hashes a kilobyte for each
// answer; SUBJECT_FAULT names a file that holds one of the Faults, read at each start. SUBJECT_PATIENCE is how long its
// shutdown waits for a connection on which nothing has come yet: 5 s, as net/http has it, unless it is given.
package subject

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Fault is what is wrong with the next generation.
type Fault string

// The faults.
const (
	None  Fault = ""
	Exit  Fault = "exit"  // it exits at once
	Crash Fault = "crash" // it exits 1.5 s after its start
	Never Fault = "never" // it hangs before it opens its port
	Wedge Fault = "wedge" // 1.5 s after its start it answers nothing any more
	Slow  Fault = "slow"  // it starts in 250 ms, and is well then
)

// Late is when a Crash and a Wedge come.
const Late = 1500 * time.Millisecond

// slowStart is how long a Slow one takes.
const slowStart = 250 * time.Millisecond

// Begin reads which fault this generation has, and has those that come before it serves.
func Begin() Fault {
	text, _ := os.ReadFile(os.Getenv("SUBJECT_FAULT"))
	fault := Fault(strings.TrimSpace(string(text)))
	switch fault {
	case Exit:
		os.Exit(3)
	case Crash:
		time.AfterFunc(Late, func() { os.Exit(70) })
	case Never:
		time.Sleep(time.Hour)
	case Slow:
		time.Sleep(slowStart)
	}
	return fault
}

// Server serves until Shutdown.
type Server struct {
	http      http.Server
	listener  net.Listener
	accepting sync.WaitGroup
	closing   atomic.Bool
	wedged    chan struct{}
	work      int
	patience  time.Duration

	mu   sync.Mutex
	busy map[net.Conn]time.Time // accepted and not answered yet, since when
}

// New makes a server on l. It answers "/" with its pid.
func New(l net.Listener, fault Fault) *Server {
	work, _ := strconv.Atoi(os.Getenv("SUBJECT_WORK"))
	patience, err := time.ParseDuration(os.Getenv("SUBJECT_PATIENCE"))
	if err != nil {
		patience = 5 * time.Second
	}
	s := &Server{listener: l, work: work, patience: patience, wedged: make(chan struct{}), busy: map[net.Conn]time.Time{}}
	s.http = http.Server{Handler: http.HandlerFunc(s.answer), ReadHeaderTimeout: 10 * time.Second, ConnState: s.note}
	if fault == Wedge {
		time.AfterFunc(Late, func() { close(s.wedged) })
	}
	return s
}

// Work does the work of one answer.
func Work(n int) {
	var block [1024]byte
	for range n {
		sum := sha256.Sum256(block[:])
		block[0] = sum[0]
	}
}

func (s *Server) answer(w http.ResponseWriter, _ *http.Request) {
	select {
	case <-s.wedged:
		select {} // for ever
	default:
	}
	Work(s.work)
	_, _ = fmt.Fprintf(w, "pid=%d\n", os.Getpid())
}

// Serve returns when the listener has been closed.
func (s *Server) Serve() {
	s.accepting.Add(1)
	defer s.accepting.Done()
	if err := s.http.Serve(s.listener); err != nil && !s.closing.Load() {
		log.Fatalf("serve: %v", err)
	}
}

// Shutdown finishes what has been accepted. http.Server.Shutdown alone loses a request that is read after it has begun: so
// first nothing new, then what there is, then Shutdown.
func (s *Server) Shutdown() {
	s.closing.Store(true)
	_ = s.listener.Close()
	s.accepting.Wait()
	s.http.SetKeepAlivesEnabled(false)
	for s.unanswered() > 0 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*s.patience)
	defer cancel()
	_ = s.http.Shutdown(ctx)
}

func (s *Server) note(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew, http.StateActive:
		s.busy[conn] = time.Now()
	default:
		delete(s.busy, conn)
	}
}

// unanswered counts the connections that wait for an answer; one that has been silent for long waits for none.
func (s *Server) unanswered() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, since := range s.busy {
		if time.Since(since) < s.patience {
			n++
		}
	}
	return n
}
