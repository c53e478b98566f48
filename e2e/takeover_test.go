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

// TestTakeover hands over servers that bind for themselves, unmodified, ten times under load.
func TestTakeover(t *testing.T) {
	needPID1(t)
	for _, server := range servers.All(harness.Servers(t)) {
		if server.Binding == nil {
			continue
		}
		for _, unprivileged := range []bool{false, true} {
			user := map[bool]string{false: "root", true: "uid 65532 without capabilities"}[unprivileged]
			t.Run(server.Name+"/"+user, func(t *testing.T) {
				t.Parallel()
				if missing := server.Missing(); missing != "" {
					t.Fatal(missing)
				}
				handOverBinding(t, server, unprivileged)
			})
		}
	}
}

func handOverBinding(t *testing.T, server servers.Server, unprivileged bool) {
	port := strconv.Itoa(freeport.Choose(t))
	address := net.JoinHostPort("127.0.0.1", port)
	place := servers.Place{Host: "127.0.0.1", Port: port, Scratch: scratch(t)}
	h := harness.Run(t, harness.Options{
		PID1: true, Unprivileged: unprivileged,
		Flags:   []string{"--takeover", "require", "--settle", "200ms", "--drain-timeout", "2m"},
		Command: server.Binding(place),
	})
	h.WaitLive(1, within)
	l := startLoad(t, address)
	flow(t, l, 50)
	var cutovers []load.Cutover
	for n := 2; n <= handoffs+1; n++ {
		h.Signal(syscall.SIGHUP)
		s := h.WaitLive(n, within)
		cutovers = append(cutovers, harness.Cutovers(s, time.Millisecond)...)
		flow(t, l, 30)
	}
	s := h.WaitGone(within)
	nothingLost(t, l, cutovers)
	if got := harness.Handoffs(s, status.Completed); got != handoffs {
		t.Errorf("%d handoffs completed, want %d", got, handoffs)
	}
	if len(s.Ports) != 1 || !strings.HasSuffix(s.Ports[0].Port, ":"+port) {
		t.Errorf("held: %+v, want port %s only", s.Ports, port)
	}
	h.Signal(syscall.SIGTERM)
	h.Wait(within)
}

// scratch is a directory that every user may write to.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "holdfast-e2e-") // t.TempDir's parent is for its own user only
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestTakeoverManyPorts: IPv4 and IPv6 and UDP at once, all bound by the program itself.
func TestTakeoverManyPorts(t *testing.T) {
	needPID1(t)
	t.Parallel()
	one, two, dns := freeport.Choose(t), freeport.Choose(t), freeport.Choose(t)
	addresses := []string{fmt.Sprintf("127.0.0.1:%d", one), fmt.Sprintf("[::1]:%d", two)}
	h := harness.Run(t, harness.Options{
		PID1: true, Flags: []string{"--settle", "200ms"},
		Command: append([]string{harness.Naughty(t)}, append(addresses, fmt.Sprintf("udp:127.0.0.1:%d", dns))...),
	})
	h.WaitLive(1, within)
	var loads []*load.Load
	for _, a := range addresses {
		loads = append(loads, startLoad(t, a))
	}
	datagrams := load.NewUDP(load.UDPOptions{Address: fmt.Sprintf("127.0.0.1:%d", dns), Timeout: within})
	datagrams.Start(t.Context())
	for n := 2; n <= 6; n++ {
		for _, l := range loads {
			flow(t, l, 20)
		}
		h.Signal(syscall.SIGHUP)
		h.WaitLive(n, within)
	}
	s := h.WaitGone(within)
	for _, l := range loads {
		nothingLost(t, l, nil)
	}
	if r := datagrams.Stop(); r.Lost() != 0 || r.Requests == 0 {
		t.Errorf("datagrams: %v", r)
	}
	if len(s.Ports) != 3 {
		t.Errorf("held: %+v", s.Ports)
	}
}

// TestClosedListener: the live generation closes its listener and stays alive. The holder's own copy would hide that, and
// clients would hang where they used to be refused: the port is let go.
func TestClosedListener(t *testing.T) {
	needPID1(t)
	t.Parallel()
	port := freeport.Choose(t)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	h := harness.Run(t, harness.Options{PID1: true, Command: []string{"/usr/bin/python3", "-c", `
import signal, socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(sys.argv[1])))
s.listen()
signal.signal(signal.SIGUSR1, lambda *a: s.close())
while True:
    try:
        s.accept()[0].close()
    except OSError:
        signal.pause()
`, strconv.Itoa(port)}})
	h.WaitLive(1, within)
	h.Signal(syscall.SIGUSR1)
	h.Eventually("clients are refused", within, func() bool {
		conn, err := net.DialTimeout("tcp", address, within)
		if err == nil {
			conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	h.WaitLog("has closed this port.*"+address, within)
	// The sockets go first, and the status tells of it after.
	h.WaitStatus("no port held", within, func(s *status.Snapshot) bool { return len(s.Ports) == 0 && s.Live == 1 })
}

// TestSlowSequential: the next generation of a sequential handoff takes long until it opens the port. What has arrived
// meanwhile waits for it: that it does not have the port open does not mean that it has closed it.
func TestSlowSequential(t *testing.T) {
	needPID1(t)
	t.Parallel()
	address := fmt.Sprintf("127.0.0.1:%d", freeport.Choose(t))
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	h := harness.Run(t, harness.Options{
		PID1: true, Flags: []string{"-v", "--strategy", "sequential"},
		Command: []string{"sh", "-c", `[ "$HOLDFAST_GENERATION" = 1 ] || read line < "$2"; exec "$0" "$1"`, harness.Naughty(t), address, gate},
	})
	h.WaitLive(1, within)
	l := startLoad(t, address)
	flow(t, l, 100)
	h.Signal(syscall.SIGHUP)
	h.WaitLog("has not opened this port yet.*generation=2", within)
	open, err := os.OpenFile(gate, os.O_WRONLY, 0) // the generation has it open for reading, or will
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	open.Close()
	h.WaitLive(2, within)
	flow(t, l, 50)
	nothingLost(t, l, nil)
	if s := h.Status(); len(s.Ports) != 1 || harness.Handoffs(s, status.Completed) != 1 {
		t.Errorf("held %+v, handoffs %v", s.Ports, s.Counters.Handoffs)
	}
}

// TestSequentialLongDrain: the old generation of a sequential handoff closes its listener at its stop signal and goes on with
// what it has begun. The port is held for the next one all the same: who comes meanwhile waits, and is not refused.
func TestSequentialLongDrain(t *testing.T) {
	needPID1(t)
	t.Parallel()
	address := fmt.Sprintf("127.0.0.1:%d", freeport.Choose(t))
	h := harness.Run(t, harness.Options{
		PID1: true, Flags: []string{"-v", "--strategy", "sequential", "--drain-timeout", "10m"},
		Command: []string{harness.Naughty(t), address},
	})
	h.WaitLive(1, within)
	answer := newGate(t)
	slow := load.New(load.Options{Address: address, Path: "/wait?for=" + string(answer), NewWorkers: 1, MaxRequests: 1, Timeout: 4 * within})
	slow.Start(t.Context())
	h.Eventually("the slow request has arrived", within, func() bool { return accepted(t, run{address: address}) >= 1 })
	h.Signal(syscall.SIGHUP)
	h.WaitLog("stop signal.*generation=1", within)
	l := startLoad(t, address)
	h.WaitLog("closed this port on its way out.*generation=1", within)
	answer.open(t)
	h.WaitLive(2, within)
	flow(t, l, 200)
	nothingLost(t, l, nil)
	if r := slow.Stop(); r.Lost() != 0 || r.Requests != 1 {
		t.Errorf("the slow request: %v", r)
	}
}

// TestMappedAddress: a program that binds an IPv4 address by its IPv6 form, as Java does.
func TestMappedAddress(t *testing.T) {
	needPID1(t)
	t.Parallel()
	port := strconv.Itoa(freeport.Choose(t))
	h := harness.Run(t, harness.Options{PID1: true, Flags: []string{"--settle", "200ms"}, Command: []string{"/usr/bin/python3", "-c", answering + `
class Mapped(Server):
    address_family = socket.AF_INET6
Mapped(("::ffff:127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
`, port}})
	h.WaitLive(1, within)
	l := startLoad(t, "127.0.0.1:"+port)
	var cutovers []load.Cutover
	for n := 2; n <= 4; n++ {
		flow(t, l, 50)
		h.Signal(syscall.SIGHUP)
		cutovers = harness.Cutovers(h.WaitLive(n, within), time.Millisecond)
	}
	flow(t, l, 50)
	nothingLost(t, l, cutovers)
	if s := h.Status(); len(s.Ports) != 1 || s.Ports[0].Port != "[::ffff:127.0.0.1]:"+port {
		t.Errorf("held: %+v", s.Ports)
	}
}

// answering is a Python program's HTTP server, which names its generation.
const answering = `
import http.server, os, socket, sys, time
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("X-Generation", os.environ["HOLDFAST_GENERATION"])
        self.end_headers()
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512
`

// TestSequentialReusePort: a sequential handoff of a server that has a socket for each of its workers. The next generation
// is given all of them, and each of its workers has to get one: what arrives at one that nobody has would never be answered.
func TestSequentialReusePort(t *testing.T) {
	needPID1(t)
	t.Parallel()
	port := strconv.Itoa(freeport.Choose(t))
	h := harness.Run(t, harness.Options{
		PID1: true, Flags: []string{"--strategy", "sequential", "--group"},
		Command: []string{"/usr/bin/python3", "-c", answering + `
class Shared(Server):
    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()
if os.environ["HOLDFAST_GENERATION"] != "5": os.fork()
Shared(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
`, port},
	})
	h.WaitLive(1, within)
	h.WaitStatus("both workers listen", within, func(s *status.Snapshot) bool { return sockets(t, port) == 2 })
	for n := 2; n <= 4; n++ {
		h.Signal(syscall.SIGHUP)
		h.WaitLive(n, within)
		h.Eventually("there are as many sockets as workers", within, func() bool { return sockets(t, port) == 2 })
	}
	// With fewer workers one is left over, which nobody will ever have, and must not hold up the proof, or clients.
	h.Signal(syscall.SIGHUP)
	h.WaitLive(5, within)
	l := startLoad(t, "127.0.0.1:"+port)
	flow(t, l, 200)
	nothingLost(t, l, nil)
}

// sockets counts those that listen on port.
func sockets(t *testing.T, port string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), fmt.Sprintf(" 0100007F:%04X 00000000:0000 0A ", number))
}

// TestClientsPorts: what a program binds for questions of its own is nobody's to be held, or to be proven: a resolver takes
// a random port for each, and may ask before it serves.
func TestClientsPorts(t *testing.T) {
	needPID1(t)
	t.Parallel()
	port, client := strconv.Itoa(freeport.Choose(t)), freeport.Choose(t)
	h := harness.Run(t, harness.Options{PID1: true, Flags: []string{"--settle", "50ms"}, Command: []string{"/usr/bin/python3", "-c", answering + `
asking = socket.socket(type=socket.SOCK_DGRAM)
asking.bind(("127.0.0.1", int(sys.argv[2]) + int(os.environ["HOLDFAST_GENERATION"]) - 1))
asking.connect(("127.0.0.1", 9))
Server(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
`, port, strconv.Itoa(client)}})
	h.WaitLive(1, within)
	h.Signal(syscall.SIGHUP)
	h.WaitLive(2, within)
	if s := h.Status(); len(s.Ports) != 1 || s.Ports[0].Port != "127.0.0.1:"+port {
		t.Errorf("held: %+v, want port %s only", s.Ports, port)
	}
}

// TestBoundOnly: a socket that is bound and never listens is given back when the program closes it.
func TestBoundOnly(t *testing.T) {
	needPID1(t)
	t.Parallel()
	port := freeport.Choose(t)
	h := harness.Run(t, harness.Options{PID1: true, Flags: []string{"--ready", "delay:0s"}, Command: []string{"/usr/bin/python3", "-c", `
import socket, sys, time
s = socket.socket()
s.bind(("127.0.0.1", int(sys.argv[1])))
s.close()
print("closed", flush=True)
time.sleep(3600)
`, strconv.Itoa(port)}})
	h.WaitLog("closed", within)
	h.Eventually("the address is free again", within, func() bool {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			l.Close()
		}
		return err == nil
	})
}

// TestBindTwice: an address that is bound twice in a generation is in use, as the kernel would say; and a check command's
// binds touch no real port.
func TestBindTwice(t *testing.T) {
	needPID1(t)
	t.Parallel()
	port := freeport.Choose(t)
	script := `
import errno, socket, sys, time
def listen():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", int(sys.argv[1])))
    s.listen()
    return s
first = listen()
if sys.argv[2] == "check":
    sys.exit(0)
try:
    listen()
    print("bound twice", flush=True)
except OSError as e:
    print("second bind:", errno.errorcode[e.errno], flush=True)
first.close()
second = listen()
print("third bind: fine", flush=True)
while True:
    c = second.accept()[0]
    c.recv(1000)
    c.sendall(b"HTTP/1.1 200 OK\r\nX-Generation: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    c.close()
`
	h := harness.Run(t, harness.Options{
		PID1: true, Flags: []string{"--settle", "50ms", "--check", "/usr/bin/python3 -c '" + script + "' " + strconv.Itoa(port) + " check"},
		Command: []string{"/usr/bin/python3", "-c", script, strconv.Itoa(port), "serve"},
	})
	h.WaitLive(1, within)
	h.WaitLog("second bind: EADDRINUSE", within)
	h.WaitLog("third bind: fine", within)
	h.Signal(syscall.SIGHUP)
	h.WaitLive(2, within)
	if s := h.WaitGone(within); harness.Handoffs(s, status.Completed) != 1 || len(s.Ports) != 1 {
		t.Errorf("handoffs %v, held %+v", s.Counters.Handoffs, s.Ports)
	}
}

// TestCheckElsewhere: a check command that binds gets a port of its own at the same address, and still finds out that an
// address is not this machine's, unless it has said that this is all right.
func TestCheckElsewhere(t *testing.T) {
	needPID1(t)
	t.Parallel()
	p := newPlace(t)
	script := filepath.Join(p.scratch, "check.py")
	text := `
import socket, sys
host, port = open(sys.argv[1]).read().split()
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if sys.argv[2:] == ["freebind"]: s.setsockopt(socket.IPPROTO_IP, 15, 1)
s.bind((host, int(port)))
s.listen(100)
open(sys.argv[1] + ".seen", "w").write("%s %d" % s.getsockname()[:2])
`
	if err := os.WriteFile(script, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	address := filepath.Join(p.scratch, "address")
	write := func(host string) {
		if err := os.WriteFile(address, []byte(host+" "+p.port), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, freebind := range map[string]string{"plain": "", "freebind": " freebind"} {
		t.Run(name, func(t *testing.T) {
			write("127.0.0.1")
			h := harness.Run(t, harness.Options{
				PID1: true, Flags: []string{"--settle", "50ms", "--check", python + " " + script + " " + address + freebind}, Command: p.python(),
			})
			h.WaitLive(1, within)
			for n, host := range []string{"127.0.0.1", "0.0.0.0", "::1"} {
				write(host)
				h.Signal(syscall.SIGHUP)
				h.WaitLive(n+2, within)
				seen, err := os.ReadFile(address + ".seen")
				at, number, _ := strings.Cut(string(seen), " ")
				if err != nil || at != host || number == p.port || number == "0" {
					t.Errorf("the check of %s:%s was bound to %s:%s, %v", host, p.port, at, number, err)
				}
			}
			write("192.0.2.1") // RFC 5737: nobody's
			h.Signal(syscall.SIGHUP)
			if freebind != "" {
				h.WaitLive(5, within)
				return
			}
			s := h.WaitHandoffs(4, within)
			if s.Last.Result == status.Completed || s.Live != 4 {
				t.Errorf("%+v, live %d", s.Last, s.Live)
			}
			h.WaitLog("Cannot assign requested address", within)
		})
	}
}

// TestPortsChange: a generation that does not open a port of the live one's fails, unless that is allowed; then the port
// goes with the old generation, and a new one comes with the new.
func TestPortsChange(t *testing.T) {
	needPID1(t)
	for _, allowed := range []bool{false, true} {
		t.Run(fmt.Sprint(allowed), func(t *testing.T) {
			t.Parallel()
			both, first, second := freeport.Choose(t), freeport.Choose(t), freeport.Choose(t)
			flags := []string{"--settle", "50ms"}
			if allowed {
				flags = append(flags, "--ports-may-change")
			} else {
				flags = append(flags, "--ready-timeout", "6s") // time to open the other one, so that only one is missing
			}
			h := harness.Run(t, harness.Options{
				PID1: true, Flags: flags,
				Command: []string{"sh", "-c", `p=$2; [ "$HOLDFAST_GENERATION" = 1 ] || p=$3; exec "$0" 127.0.0.1:$1 127.0.0.1:$p`,
					harness.Naughty(t), strconv.Itoa(both), strconv.Itoa(first), strconv.Itoa(second)},
			})
			h.WaitLive(1, within)
			h.WaitStatus("both ports are held", within, func(s *status.Snapshot) bool { return len(s.Ports) == 2 })
			l := startLoad(t, fmt.Sprintf("127.0.0.1:%d", both))
			h.Signal(syscall.SIGHUP)
			s := h.WaitHandoffs(1, within)
			h.WaitGone(within)
			flow(t, l, 50)
			nothingLost(t, l, nil)
			held := fmt.Sprint(h.Status().Ports)
			if !allowed {
				if s.Last.Result != status.FailedHandoff || !strings.Contains(s.Last.Reason, fmt.Sprintf("does not listen on 127.0.0.1:%d", first)) {
					t.Errorf("%+v", s.Last)
				}
				return
			}
			if s.Last.Result != status.Completed || strings.Contains(held, strconv.Itoa(first)) || !strings.Contains(held, strconv.Itoa(second)) {
				t.Errorf("%+v, held %s", s.Last, held)
			}
		})
	}
}
