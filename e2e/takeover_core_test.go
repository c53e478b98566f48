package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/e2e/load"
	"holdfast/e2e/servers"
	"holdfast/handoff/status"
)

const python = "/usr/bin/python3"

// served is Python that answers on a listening socket s, in one thread or several, until SIGTERM; what it has begun it
// finishes.
const served = `
import os, signal, socket, sys, select
busy, ended = [], []
def answer(c):
    busy.append(1)
    c.settimeout(5)
    try:
        if not c.recv(1000): raise OSError # a probe's end
        g = os.environ["HOLDFAST_GENERATION"]
        c.sendall(("HTTP/1.1 200 OK\r\nX-Generation: %s\r\nX-Worker: %d\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok" % (g, os.getpid())).encode())
    except OSError: pass
    c.close()
    busy.pop()
    if ended and not busy: os._exit(0)
def end(*a):
    ended.append(1)
    if not busy: os._exit(0)
signal.signal(signal.SIGTERM, end)
`

// watching registers its socket with epoll before it binds it, as some event loops do.
const watching = served + `
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setblocking(False)
e = select.epoll()
e.register(s.fileno(), select.EPOLLIN)
s.bind(("127.0.0.1", int(sys.argv[1])))
s.listen(100)
while True:
    for _ in e.poll():
        try: answer(s.accept()[0])
        except BlockingIOError: pass
`

// TestWatchedBeforeBind: a program that watches its socket before it binds it is deaf when the socket is replaced, which is
// said; with --takeover-at socket nothing is replaced.
func TestWatchedBeforeBind(t *testing.T) {
	needPID1(t)
	t.Run("bind", func(t *testing.T) {
		t.Parallel()
		port := strconv.Itoa(freeport.Choose(t))
		h := harness.Run(t, harness.Options{PID1: true, Command: []string{python, "-c", watching, port}})
		h.WaitLog("watched its socket.*--takeover-at socket", within)
		s := h.WaitStatus("a warning", within, func(s *status.Snapshot) bool { return len(s.Warnings) == 1 })
		if !strings.Contains(s.Warnings[0], "127.0.0.1:"+port+": generation 1: ") || !strings.Contains(s.Warnings[0], "--takeover-at socket") {
			t.Errorf("warnings %q", s.Warnings)
		}
		if _, text := h.Probe("/statusz?format=text"); !strings.Contains(text, "--takeover-at socket") {
			t.Errorf("the status does not tell of it: %s", text)
		}
		if code, _ := h.Ready(); code == 200 {
			t.Error("it is ready")
		}
	})
	for _, unprivileged := range []bool{false, true} {
		t.Run(fmt.Sprint("socket/unprivileged=", unprivileged), func(t *testing.T) {
			t.Parallel()
			port := strconv.Itoa(freeport.Choose(t))
			h := harness.Run(t, harness.Options{
				PID1: true, Unprivileged: unprivileged, Flags: []string{"--takeover-at", "socket", "--settle", "50ms"},
				Command: []string{python, "-c", watching, port},
			})
			h.WaitLive(1, within)
			handOverUnderLoad(t, h, "tcp", "127.0.0.1:"+port, 5)
			if s := h.Status(); len(s.Warnings) != 0 || len(s.Ports) != 1 {
				t.Errorf("warnings %q, held %+v", s.Warnings, s.Ports)
			}
		})
	}
}

// handOverUnderLoad loses nothing over so many handoffs.
func handOverUnderLoad(t *testing.T, h *harness.Holdfast, network, address string, n int) load.Result {
	t.Helper()
	l := load.New(load.Options{Network: network, Address: address, NewWorkers: 4, KeepAliveWorkers: 2, Timeout: within})
	l.Start(t.Context())
	flow(t, l, 50)
	first := h.Status().Live
	for g := first + 1; g <= first+n; g++ {
		h.Signal(syscall.SIGHUP)
		h.WaitLive(g, within)
		flow(t, l, 30)
	}
	s := h.WaitGone(within)
	r := nothingLost(t, l, nil)
	if got := harness.Handoffs(s, status.Completed); got != uint64(n) {
		t.Errorf("%d handoffs completed, want %d", got, n)
	}
	return r
}

// TestTakeoverAtSocket hands over real servers that get their sockets from the holder.
func TestTakeoverAtSocket(t *testing.T) {
	needPID1(t)
	for _, server := range servers.All(harness.Servers(t)) {
		if server.Binding == nil || server.Missing() != "" {
			continue
		}
		for _, unprivileged := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/unprivileged=%t", server.Name, unprivileged), func(t *testing.T) {
				t.Parallel()
				port := strconv.Itoa(freeport.Choose(t))
				place := servers.Place{Host: "127.0.0.1", Port: port, Scratch: scratch(t)}
				h := harness.Run(t, harness.Options{
					PID1: true, Unprivileged: unprivileged,
					Flags:   []string{"--takeover", "require", "--takeover-at", "socket", "--settle", "200ms", "--drain-timeout", "2m"},
					Command: server.Binding(place),
				})
				h.WaitLive(1, within)
				handOverUnderLoad(t, h, "tcp", net.JoinHostPort("127.0.0.1", port), 5)
			})
		}
	}
}

// TestOutgoing: the holder keeps nothing of a socket that becomes a client's, and its end reaches the peer at once.
func TestOutgoing(t *testing.T) {
	needPID1(t)
	for name, flags := range map[string][]string{"bind": nil, "socket": {"--takeover-at", "socket"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			peer, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			own := freeport.Choose(t)
			h := harness.Run(t, harness.Options{PID1: true, Flags: append(flags, "--ready", "delay:0s"), Command: []string{python, "-c", `
import socket, sys, time
peer, own = ("127.0.0.1", int(sys.argv[1])), int(sys.argv[2])
sys.stdin.close()
def client(port):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if port: s.bind(("127.0.0.1", port))
    s.connect(peer)
    s.sendall(b"x")
    s.recv(1) # until the peer says so
    s.close()
for n in range(300): client(0)
client(own)
for n in range(300): socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", peer)
for n in range(300): socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
print("done", flush=True)
time.sleep(3600)
`, fmt.Sprint(peer.Addr().(*net.TCPAddr).Port), strconv.Itoa(own)}})
			h.WaitLive(1, within)
			before := h.FDs()
			for n := range 301 {
				conn, err := peer.Accept()
				if err != nil {
					t.Fatal(err)
				}
				conn.SetDeadline(time.Now().Add(within))
				b := make([]byte, 1)
				if _, err := conn.Read(b); err != nil {
					t.Fatalf("connection %d: %v", n, err)
				}
				if _, err := conn.Write(b); err != nil {
					t.Fatalf("connection %d: %v", n, err)
				}
				if _, err := conn.Read(b); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("connection %d does not end: %v", n, err)
				}
				conn.Close()
			}
			h.WaitLog("done", within)
			h.Eventually("no more descriptors than before", within, func() bool { return h.FDs() <= before })
			if s := h.Status(); len(s.Ports) != 0 {
				t.Errorf("held: %+v", s.Ports)
			}
		})
	}
}

// TestOptionsSurvive: what a program sets on its socket before it binds it, it finds there afterwards.
func TestOptionsSurvive(t *testing.T) {
	needPID1(t)
	for name, flags := range map[string][]string{"bind": nil, "socket": {"--takeover-at", "socket"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tcp, udp, six := freeport.Choose(t), freeport.Choose(t), freeport.Choose(t)
			done := filepath.Join(scratch(t), "done")
			h := harness.Run(t, harness.Options{PID1: true, Flags: append(flags, "--ready", "exec:test -e "+done), Command: []string{python, "-c", `
import socket, struct, sys, time
SOL, IP, V6, TCP = socket.SOL_SOCKET, socket.IPPROTO_IP, socket.IPPROTO_IPV6, socket.IPPROTO_TCP
def check(family, kind, address, options):
    s = socket.socket(family, kind)
    before = {}
    for level, name, value in options:
        s.setsockopt(level, name, value)
        before[level, name] = s.getsockopt(level, name, 20)
    s.bind(address)
    for (level, name), was in before.items():
        now = s.getsockopt(level, name, 20)
        print("option", level, name, "is same" if now == was else "WAS %r IS %r" % (was, now), flush=True)
    return s
a = check(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", int(sys.argv[1])), [
    (SOL, socket.SO_RCVBUF, 30000), (SOL, socket.SO_SNDBUF, 40000), (SOL, socket.SO_RCVBUF, 50000),
    (SOL, 36, 7), (SOL, 49, 1), (IP, 15, 1), (IP, 19, 1), (IP, socket.IP_TOS, 16), (IP, socket.IP_TTL, 33), (SOL, socket.SO_PRIORITY, 5),
    (TCP, socket.TCP_DEFER_ACCEPT, 3), (TCP, 23, 17), (TCP, 13, b"reno"), (TCP, socket.TCP_MAXSEG, 1000), (TCP, 27, 1)])
b = check(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", int(sys.argv[2])), [
    (IP, 8, 1), (IP, 8, b"\x01"), (IP, 20, 1), (IP, 13, 1), (IP, 12, b"\x01\0\0\0"), (IP, 11, 1), (IP, 10, 3), (SOL, 29, 1), (SOL, 40, 1),
    (SOL, socket.SO_RCVBUF, 123456), (IP, 49, 0)])
c = check(socket.AF_INET6, socket.SOCK_DGRAM, ("::1", int(sys.argv[3])), [
    (V6, socket.IPV6_V6ONLY, 1), (V6, 49, 1), (V6, 51, 1), (V6, 66, 1), (V6, 67, 8), (V6, 78, 1), (V6, 25, 1), (V6, 23, 2), (SOL, 35, 1)])
open(sys.argv[4], "w")
time.sleep(3600)
`, strconv.Itoa(tcp), strconv.Itoa(udp), strconv.Itoa(six), done}})
			h.WaitLive(1, within)
			if n := h.CountLog("option .* is same"); n != 14+10+9 {
				t.Errorf("%d options are the same:\n%s", n, h.Log())
			}
			h.WaitStatus("both UDP ports are held", within, func(s *status.Snapshot) bool { return len(s.Ports) == 2 })
		})
	}
}
