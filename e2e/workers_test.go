package e2e

import (
	"net"
	"strconv"
	"syscall"
	"testing"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/e2e/load"
	"holdfast/handoff/status"
)

// workers is a server with a socket for each of its three workers (SO_REUSEPORT). At SIGUSR1 the oldest one ends, when it has
// answered what it has accepted; at SIGUSR2 there is one more.
const workers = served + `
def work():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2))
    stop = []
    signal.signal(signal.SIGTERM, lambda *a: stop.append(1))
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("127.0.0.1", int(sys.argv[1])))
    s.listen(100)
    os.write(1, b"a worker listens\n") # one write: three write at once, and print makes two where Python is unbuffered
    s.settimeout(0.05)
    while not stop:
        try: answer(s.accept()[0])
        except TimeoutError: pass
    os._exit(0)
def start():
    pid = os.fork()
    if pid == 0: work()
    children.append(pid)
children = []
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2))
for n in range(3): start()
while True:
    s = signal.sigwait((signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2))
    if s == signal.SIGUSR2:
        start()
        continue
    for pid in list(children):
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        children.remove(pid)
        if s == signal.SIGUSR1: break
    else: sys.exit(0)
    os.write(1, b"a worker has ended\n")
`

// TestWorkerEnds: a worker with a socket of its own ends, and is replaced or not. Without holdfast the kernel would send its
// share of the clients to the others from then on; so they must not wait for it behind the holder's duplicate.
func TestWorkerEnds(t *testing.T) {
	needPID1(t)
	for name, flags := range map[string][]string{"bind": nil, "socket": {"--takeover-at", "socket"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port := strconv.Itoa(freeport.Choose(t))
			address := net.JoinHostPort("127.0.0.1", port)
			h := harness.Run(t, harness.Options{
				PID1: true, Flags: append([]string{"--settle", "100ms", "--drain-timeout", "20s"}, flags...), Command: []string{python, "-c", workers, port},
			})
			h.WaitLive(1, within)
			h.WaitStatus("all workers listen", within, func(*status.Snapshot) bool { return sockets(t, port) == 3 })
			l := load.New(load.Options{Address: address, NewWorkers: 6, Timeout: within})
			l.Start(t.Context())
			flow(t, l, 50)
			for range 2 {
				h.Signal(syscall.SIGUSR1)
				h.WaitLog("a worker has ended", within)
				h.Eventually("its socket is retired", within, func() bool { return h.CountLog("a worker's socket is retired") > 0 })
				flow(t, l, 100)
			}
			h.Signal(syscall.SIGUSR2)
			h.Eventually("two are left", within, func() bool { return sockets(t, port) == 2 })
			h.Signal(syscall.SIGHUP) // the next generation has three again
			h.WaitLive(2, within)
			flow(t, l, 50)
			h.WaitGone(within)
			nothingLost(t, l, nil)
			if s := h.Status(); len(s.Ports) != 1 {
				t.Errorf("held: %+v", s.Ports)
			}
		})
	}
}

// TestWorkerReplaced: the worker that takes the place of one that has ended gets that one's socket, with what is queued.
func TestWorkerReplaced(t *testing.T) {
	needPID1(t)
	t.Parallel()
	port := strconv.Itoa(freeport.Choose(t))
	address := net.JoinHostPort("127.0.0.1", port)
	h := harness.Run(t, harness.Options{PID1: true, Command: []string{python, "-c", workers, port}})
	h.WaitLive(1, within)
	h.Eventually("all workers listen", within, func() bool { return h.CountLog("a worker listens") == 3 })
	for n := range 5 {
		h.Signal(syscall.SIGUSR1)
		h.Eventually("a worker has ended", within, func() bool { return h.CountLog("a worker has ended") > n })
		h.Signal(syscall.SIGUSR2) // nobody has asked meanwhile, and would have waited
		h.Eventually("another listens", within, func() bool { return h.CountLog("a worker listens") > 3+n })
		shares := map[string]int{}
		for range 10_000 {
			if shares[workerOf(t, address)]++; len(shares) == 3 {
				break
			}
		}
		if got := sockets(t, port); got != 3 || len(shares) != 3 {
			t.Errorf("%d sockets, and these workers have answered: %v", got, shares)
		}
	}
	if n := h.CountLog("a worker's socket is retired"); n > 0 {
		t.Errorf("%d sockets were retired", n)
	}
}
