package load

import (
	"fmt"
	"net"
	nethttp "net/http"
	"net/http/fcgi"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// scripted is a server that writes and reads what each connection's script says: lines that begin with "<" stand for bytes of
// the client, as many as they are long; others are sent.
func scripted(t *testing.T, lines ...string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				for _, line := range lines {
					if want, ok := strings.CutPrefix(line, "<"); ok {
						if n, err := conn.Read(make([]byte, len(want))); err != nil || n != len(want) {
							return
						}
					} else if _, err := conn.Write([]byte(line)); err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}

func TestPlain(t *testing.T) {
	ping := Step{Send: "PING\r\n", Want: "+PONG", Line: true}
	for name, c := range map[string]struct {
		protocol Plain
		kept     bool
		n        int64
		server   []string
		want     Outcome
		retried  uint64
	}{
		"answered":       {protocol: Plain{Each: ping}, n: 5, server: []string{"<PING..", "+PONG\r\n"}, want: OK},
		"wrong":          {protocol: Plain{Each: ping}, n: 5, server: []string{"<PING..", "-LOADING\r\n"}, want: Bad},
		"half":           {protocol: Plain{Each: ping}, n: 5, server: []string{"<PING..", "+PO"}, want: Short},
		"closed":         {protocol: Plain{Each: ping}, n: 5, server: []string{"<PING.."}, want: EOF},
		"banner":         {protocol: Plain{Hello: Step{Want: "SSH-", Line: true}}, n: 5, server: []string{"SSH-2.0-x\r\n"}, want: OK},
		"no banner":      {protocol: Plain{Hello: Step{Want: "SSH-", Line: true}}, n: 5, server: []string{"Exceeded\r\n"}, want: Bad},
		"bytes":          {protocol: Plain{Each: Step{Send: "\x00", Want: "NN"}}, n: 5, server: []string{"<.", "N", "N"}, want: OK},
		"greeted":        {protocol: Plain{Hello: Step{Want: "INFO", Line: true}, Each: ping}, n: 5, server: []string{"INFO\n", "<PING..", "+PONG\r\n"}, want: OK},
		"greeted only":   {protocol: Plain{Hello: Step{Want: "INFO", Line: true}, Each: ping}, n: 5, server: []string{"INFO\n", "<PING.."}, want: EOF},
		"kept":           {protocol: Plain{Each: ping}, kept: true, n: 2, server: []string{"<PING..", "+PONG\r\n", "<PING..", "+PONG\r\n"}, want: OK},
		"kept, repeated": {protocol: Plain{Each: ping}, kept: true, n: 3, server: []string{"<PING..", "+PONG\r\n", "<PING.."}, want: OK, retried: 2},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Address: scripted(t, c.server...), Protocol: c.protocol, NewWorkers: 1}
			if c.kept {
				o.NewWorkers, o.KeepAliveWorkers = 0, 1
			}
			var observed atomic.Int64
			o.Observe = func(r Request) {
				observed.Add(1)
				if r.Retried != (r.Cause != "") {
					t.Errorf("repeated %t, because of %q", r.Retried, r.Cause)
				}
			}
			r := run(t, o, c.n)
			if r.ByOutcome[c.want] != uint64(c.n) || r.Retried != c.retried || observed.Load() != c.n {
				t.Errorf("want %d %s, %d repeated, all observed: %d were", c.n, c.want, c.retried, observed.Load())
			}
		})
	}
}

// TestFastCGI asks the standard library's server.
func TestFastCGI(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		_ = fcgi.Serve(ln, nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
			if path := fcgi.ProcessEnv(r)["SCRIPT_FILENAME"]; path != "/app/index.php" || r.Method != "GET" {
				nethttp.Error(w, path, nethttp.StatusTeapot)
				return
			}
			fmt.Fprint(w, "generation=3\n")
		}))
	}()
	for script, want := range map[string]Outcome{"/app/index.php": OK, "/other.php": Bad} {
		o := Options{Address: ln.Addr().String(), Protocol: FastCGI{Script: script}, NewWorkers: 2, KeepAliveWorkers: 2}
		r := run(t, o, 40)
		if r.ByOutcome[want] != 40 || want == OK && r.ByGeneration[3] != 40 {
			t.Errorf("%s: want 40 %s of generation 3", script, want)
		}
		if want == OK && r.Connections >= 40 {
			t.Errorf("%s: %d connections for 40 requests: none was kept", script, r.Connections)
		}
	}
}

// nameserver answers each query as it is told; an answer of nil is none.
func nameserver(t *testing.T, answer func(n int, m dnsmessage.Message) []dnsmessage.Message) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 2048)
		for n := 0; ; n++ {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:size]) != nil {
				continue
			}
			m.Response = true
			for _, a := range answer(n, m) {
				if b, err := a.Pack(); err == nil {
					_, _ = conn.WriteTo(b, from)
				}
			}
		}
	}()
	return conn.LocalAddr().String()
}

func TestDNS(t *testing.T) {
	right := func(m dnsmessage.Message) dnsmessage.Message {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}},
		}}
		return m
	}
	for name, c := range map[string]struct {
		want   Outcome
		answer func(int, dnsmessage.Message) []dnsmessage.Message
	}{
		"right": {OK, func(_ int, m dnsmessage.Message) []dnsmessage.Message { return []dnsmessage.Message{right(m)} }},
		"empty": {Bad, func(_ int, m dnsmessage.Message) []dnsmessage.Message { return []dnsmessage.Message{m} }},
		"refused": {Bad, func(_ int, m dnsmessage.Message) []dnsmessage.Message {
			m.RCode = dnsmessage.RCodeRefused
			return []dnsmessage.Message{right(m)}
		}},
		"another's first": {OK, func(_ int, m dnsmessage.Message) []dnsmessage.Message {
			other := m
			other.ID++
			return []dnsmessage.Message{other, right(m)}
		}},
		"none": {Timeout, func(int, dnsmessage.Message) []dnsmessage.Message { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Network: "udp", Address: nameserver(t, c.answer), Protocol: DNS{Name: "www.example.test."}, NewWorkers: 1, KeepAliveWorkers: 1}
			if c.want == Timeout {
				o.Timeout = 50 * time.Millisecond
			}
			if r := run(t, o, 6); r.ByOutcome[c.want] != 6 {
				t.Errorf("want 6 %s", c.want)
			}
		})
	}
}
