package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/handoff/status"
)

// opening listens on what it is told to, and binds in many ways what is not to be held. It leaves the excluded port to its
// first generation, since two can't have that.
const opening = served + `
import threading
given, own, excluded, never, path = sys.argv[1:6]
g = os.environ["HOLDFAST_GENERATION"]
def bind(address, family=socket.AF_INET, kind=socket.SOCK_STREAM, options=()):
    s = socket.socket(family, kind)
    for o in options: s.setsockopt(socket.SOL_SOCKET, o, 1)
    s.bind(address)
    if kind == socket.SOCK_STREAM: s.listen(100)
    return s
def serve(s):
    while True: answer(s.accept()[0])
keep = [
    bind(("127.0.0.1", 0)),
    bind(("127.0.0.1", 0), kind=socket.SOCK_DGRAM),
    bind("\0" + path + g, socket.AF_UNIX),
    bind(path + g + ".datagrams", socket.AF_UNIX, socket.SOCK_DGRAM),
    bind(path + g + ".packets", socket.AF_UNIX, socket.SOCK_SEQPACKET),
]
unbound = socket.socket()
unbound.listen(1)
fixed = socket.socket()
fixed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
fixed.bind(("127.0.0.1", int(never)))
ports = [given, own] + ([excluded] if g == "1" else [])
for s in [bind(("127.0.0.1", int(p)), options=[socket.SO_REUSEADDR]) for p in ports] + [bind(path, socket.AF_UNIX)]:
    threading.Thread(target=serve, args=(s,), daemon=True).start()
print("opened by", g, flush=True)
while True: signal.pause()
`

// TestHeldPorts: held is what --listen names, also where the program binds that by itself, and what else the program listens
// on: not what is excluded, not what has a port of the kernel's choice or no path, and not what never listens.
func TestHeldPorts(t *testing.T) {
	needPID1(t)
	for _, at := range []string{"bind", "socket"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			given, own, excluded, never := freeport.Choose(t), freeport.Choose(t), freeport.Choose(t), freeport.Choose(t)
			path := filepath.Join(scratch(t), "s")
			address := func(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
			h := harness.Run(t, harness.Options{
				PID1: true,
				Flags: []string{
					"--listen", address(given), "--takeover", "require", "--takeover-at", at, "--takeover-exclude", strconv.Itoa(excluded),
					"--settle", "50ms",
				},
				Command: []string{python, "-c", opening, strconv.Itoa(given), strconv.Itoa(own), strconv.Itoa(excluded), strconv.Itoa(never), path},
			})
			h.WaitLog("opened by 1", within)
			check := func(s *status.Snapshot) {
				t.Helper()
				var held []string
				for _, p := range s.Ports {
					held = append(held, p.Port)
				}
				if want := []string{address(given), address(own), "unix://" + path}; strings.Join(held, " ") != strings.Join(want, " ") {
					t.Errorf("held: %q, want %q", held, want)
				}
			}
			check(h.WaitLive(1, within))
			if g, err := askedAt(address(excluded)); err != nil || g != 1 {
				t.Errorf("the excluded port is answered by %d, %v", g, err)
			}
			l := startLoad(t, address(given))
			more := startLoad(t, address(own))
			flow(t, l, 50)
			h.Signal(syscall.SIGHUP)
			h.WaitLive(2, within)
			check(h.WaitGone(within))
			if !refusedAt(address(excluded)) {
				t.Error("the excluded port is not its generation's alone")
			}
			flow(t, l, 50)
			flow(t, more, 50)
			nothingLost(t, l, nil)
			nothingLost(t, more, nil)
		})
	}
}

const opensLate = served + `
first, second = sys.argv[1:3]
def open_(port):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", int(port)))
    s.listen(100)
    def serve():
        while True: answer(s.accept()[0])
    threading.Thread(target=serve, daemon=True).start()
import threading
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1,))
open_(first)
while True:
    signal.sigwait((signal.SIGUSR1,))
    open_(second)
`

// TestOpenedAfterTheCutover: a port that each generation opens only after it is proven is not waited for. When the new one
// opens it, its clients are that one's from then on, although the old one is still there.
func TestOpenedAfterTheCutover(t *testing.T) {
	needPID1(t)
	t.Parallel()
	first, second := freeport.Choose(t), freeport.Choose(t)
	late := fmt.Sprintf("127.0.0.1:%d", second)
	h := harness.Run(t, harness.Options{
		PID1: true, Flags: []string{"--settle", "10m"}, Command: []string{python, "-c", opensLate, strconv.Itoa(first), strconv.Itoa(second)},
	})
	h.WaitLog("generation proven.*generation=1", within)
	h.Signal(syscall.SIGUSR1)
	h.WaitLog("port held.*"+late, within)
	h.Signal(syscall.SIGHUP)
	h.WaitStatus("generation 2 is live", within, func(s *status.Snapshot) bool { return s.Live == 2 })
	if g, err := askedAt(late); err != nil || g != 1 {
		t.Errorf("the late port is answered by %d, %v, before it has been opened", g, err)
	}
	h.Signal(syscall.SIGUSR1)
	h.WaitLog("it is turned now.*"+late, within)
	for range 20 {
		if g, err := askedAt(late); err != nil || g != 2 {
			t.Fatalf("the late port is answered by %d, %v", g, err)
		}
	}
	for _, p := range h.Status().Ports {
		if p.Live != 2 {
			t.Errorf("held: %+v", p)
		}
	}
}

// TestTakeoverOff: nothing is held that the program binds, so that the next generation finds its port in use.
func TestTakeoverOff(t *testing.T) {
	needPID1(t)
	t.Parallel()
	p := newPlace(t)
	h := harness.Run(t, harness.Options{PID1: true, Flags: []string{"--takeover=off"}, Command: p.python()})
	h.Eventually("the server answers", within, func() bool { return answers(p.address(), "/") == 200 })
	filters := func(pid int) string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		return statusLine(text, "Seccomp_filters")
	}
	for _, process := range h.Descendants() {
		if got, want := filters(process.PID), filters(os.Getpid()); got != want {
			t.Errorf("%s is under %s filters, want %s", process.Comm, got, want)
		}
	}
	h.Signal(syscall.SIGHUP)
	s := h.WaitHandoffs(1, within)
	if s.Last.Result != status.FailedHandoff || s.Live != 1 || len(s.Ports) != 0 {
		t.Errorf("%+v, live %d, held: %+v", s.Last, s.Live, s.Ports)
	}
	h.WaitLog("Address already in use", within)
	if answers(p.address(), "/") != 200 {
		t.Error("the server does not answer")
	}
}

// TestDeferredAccept: with TCP_DEFER_ACCEPT, set before or after the bind, a silent connection never reaches the server. It is
// proven all the same.
func TestDeferredAccept(t *testing.T) {
	needPID1(t)
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			port := strconv.Itoa(freeport.Choose(t))
			h := harness.Run(t, harness.Options{
				PID1: true, Flags: []string{"--settle", "50ms"}, Command: []string{python, "-c", served + `
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if sys.argv[2] == "before": s.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60)
s.bind(("127.0.0.1", int(sys.argv[1])))
if sys.argv[2] == "after": s.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60)
s.listen(100)
while True: answer(s.accept()[0])
`, port, when},
			})
			h.WaitLive(1, within)
			for n := 1; n <= 4; n++ {
				if g, err := askedAt("127.0.0.1:" + port); err != nil || g != n {
					t.Errorf("generation %d answered, %v; %d is live", g, err, n)
				}
				if n < 4 { // nobody is in the midst of a handshake, which lasts until the client has said something
					h.Signal(syscall.SIGHUP)
					h.WaitLive(n+1, within)
					h.WaitGone(within)
				}
			}
		})
	}
}

// TestHundredPorts: a handoff takes few of the ports that there are to connect from: what each of the held ports is proven with,
// and no more. Those that have been used stay in TIME_WAIT for a minute.
func TestHundredPorts(t *testing.T) {
	needPID1(t)
	t.Parallel()
	const n = 100
	var ports []string
	for range n {
		ports = append(ports, strconv.Itoa(freeport.Choose(t)))
	}
	h := harness.Run(t, harness.Options{
		PID1: true, Flags: []string{"--settle", "50ms"}, Command: append([]string{python, "-c", served + `
poll = select.poll()
listeners = {}
for p in sys.argv[1:]:
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", int(p)))
    s.listen(100)
    listeners[s.fileno()] = s
    poll.register(s)
while True:
    for fd, _ in poll.poll(): answer(listeners[fd].accept()[0])
`}, ports...),
	})
	h.WaitLive(1, within)
	if s := h.WaitStatus("all ports are held", within, func(s *status.Snapshot) bool { return len(s.Ports) == n }); s.Ready.Live != "" {
		h.WaitStatus("it is ready", within, func(s *status.Snapshot) bool { return s.Ready.Live == "" })
	}
	for to := 2; to <= 3; to++ {
		before := timeWaits(t, ports)
		h.Signal(syscall.SIGHUP)
		h.WaitLive(to, within)
		h.WaitGone(within)
		if more := timeWaits(t, ports) - before; more > n+n/10 {
			t.Errorf("handoff to %d: %d connections more in TIME_WAIT for %d ports", to, more, n)
		}
	}
	for _, p := range ports {
		if g, err := askedAt("127.0.0.1:" + p); err != nil || g != 3 {
			t.Fatalf("port %s is answered by %d, %v", p, g, err)
		}
	}
}

// timeWaits counts the connections in TIME_WAIT that have been to one of the ports.
func timeWaits(t *testing.T, ports []string) (n int) {
	t.Helper()
	to := map[string]bool{}
	for _, p := range ports {
		number, err := strconv.Atoi(p)
		if err != nil {
			t.Fatal(err)
		}
		to[fmt.Sprintf("0100007F:%04X", number)] = true
	}
	table, err := os.ReadFile("/proc/self/net/tcp") // proc_pid_net(5)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 3 && f[3] == "06" && (to[f[1]] || to[f[2]]) {
			n++
		}
	}
	return n
}
