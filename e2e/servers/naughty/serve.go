package main

import (
	"context"
	"errors"
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

	"golang.org/x/sys/unix"
)

// server is the well-behaved part.
type server struct {
	generation string
	http       http.Server
	listeners  []net.Listener
	packets    []net.PacketConn
	accepting  sync.WaitGroup // a Serve that may still accept
	closing    atomic.Bool
	busy       busy
}

// busy are the connections that have not been answered: accepted and silent yet, or in the midst of a request.
type busy struct {
	mu    sync.Mutex
	conns map[net.Conn]time.Time // since when
}

func (b *busy) note(conn net.Conn, state http.ConnState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conns == nil {
		b.conns = map[net.Conn]time.Time{}
	}
	switch state {
	case http.StateNew, http.StateActive:
		b.conns[conn] = time.Now()
	default:
		delete(b.conns, conn)
	}
}

// wait returns when all have been answered, or have said nothing for a while.
func (b *busy) wait() {
	const silence = 30 * time.Second // http.Server.Shutdown has five seconds, in which a busy machine may starve a client
	for {
		b.mu.Lock()
		n := 0
		for _, since := range b.conns {
			if time.Since(since) < silence {
				n++
			}
		}
		b.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// open takes the given sockets, or binds the addresses when there are none.
func open(do directives, generation string, given []int, addrs []string) (*server, error) {
	s := &server{generation: generation}
	s.http = http.Server{Handler: s.handler(do), ReadHeaderTimeout: 10 * time.Second, ConnState: s.busy.note}
	for _, fd := range given {
		if err := s.take(fd); err != nil {
			return nil, fmt.Errorf("take descriptor %d: %w", fd, err)
		}
	}
	if len(given) > 0 {
		return s, nil
	}
	for _, addr := range addrs {
		if udp, ok := strings.CutPrefix(addr, "udp:"); ok {
			conn, err := net.ListenPacket("udp", udp)
			if err != nil {
				return nil, err
			}
			s.packets = append(s.packets, conn)
			continue
		}
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, err
		}
		s.listeners = append(s.listeners, ln)
	}
	return s, nil
}

func (s *server) take(fd int) error {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer func() { _ = f.Close() }() // what follows works on a duplicate
	if kind == unix.SOCK_DGRAM {
		conn, err := net.FilePacketConn(f)
		s.packets = append(s.packets, conn)
		return err
	}
	ln, err := net.FileListener(f)
	s.listeners = append(s.listeners, ln)
	return err
}

// serve returns when every socket has been closed.
func (s *server) serve() {
	var wg sync.WaitGroup
	for _, ln := range s.listeners {
		wg.Go(func() {
			s.accepting.Add(1)
			defer s.accepting.Done()
			if err := s.http.Serve(ln); !s.closing.Load() && !errors.Is(err, http.ErrServerClosed) {
				log.Fatalf("serve: %v", err)
			}
		})
	}
	for _, conn := range s.packets {
		wg.Go(func() { s.answer(conn) })
	}
	wg.Wait()
}

// shutdown finishes what has been accepted, however long that takes.
func (s *server) shutdown() {
	for _, conn := range s.packets {
		_ = conn.Close()
	}
	// Shutdown alone loses what was accepted last: a request that net/http reads after Shutdown has begun it closes without
	// an answer (conn.serve in net/http). So first nothing new, then what there is, then Shutdown.
	s.closing.Store(true)
	for _, ln := range s.listeners {
		_ = ln.Close()
	}
	s.accepting.Wait()
	s.http.SetKeepAlivesEnabled(false)
	s.busy.wait()
	if err := s.http.Shutdown(context.Background()); err != nil {
		log.Printf("shut down: %v", err)
	}
}

func (s *server) answer(conn net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = fmt.Fprintf(packetTo{conn, from}, "%s generation=%s\n", strings.TrimSuffix(string(buf[:n]), "\n"), s.generation)
	}
}

type packetTo struct {
	conn net.PacketConn
	to   net.Addr
}

func (p packetTo) Write(b []byte) (int, error) { return p.conn.WriteTo(b, p.to) }

func (s *server) handler(do directives) http.Handler {
	var once sync.Once
	user := func(w http.ResponseWriter, r *http.Request) {
		if do.has("crash-after-request") {
			once.Do(func() {
				time.AfterFunc(do.duration("crash-after-request"), func() { os.Exit(crashed) })
			})
		}
		ms, _ := strconv.Atoi(r.URL.Query().Get("ms"))
		time.Sleep(min(time.Duration(ms)*time.Millisecond, time.Minute))
		if file := r.URL.Query().Get("for"); file != "" {
			await(file)
		}
		w.Header().Set("X-Generation", s.generation)
		_, _ = fmt.Fprintf(w, "generation=%s pid=%d\n", s.generation, os.Getpid())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", user)
	mux.HandleFunc("/slow", user)
	mux.HandleFunc("/wait", user)
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if file := do["healthy-when"]; file != "" && !exists(file) {
			http.Error(w, "not yet", http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	return mux
}
