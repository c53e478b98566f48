package e2e

import (
	"strconv"
	"syscall"
	"testing"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
)

// TestAbuse has a generation do what no sane program does with the calls that the holder answers. Neither the holder nor
// the port suffers, and nothing of it stays.
func TestAbuse(t *testing.T) {
	needPID1(t)
	for _, at := range []string{"bind", "socket"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			port, other := strconv.Itoa(freeport.Choose(t)), freeport.Choose(t)
			h := harness.Run(t, harness.Options{
				PID1: true, Wrap: []string{"prlimit", "--nofile=300"}, // for the holder, too
				Flags:   []string{"--takeover-at", at, "--ports-may-change", "--settle", "50ms", "--drain-timeout", "2m"},
				Command: []string{python, "-c", abuser, port, strconv.Itoa(other)},
			})
			h.WaitLive(1, within)
			l := startLoad(t, "127.0.0.1:"+port)
			flow(t, l, 50)
			h.Signal(syscall.SIGHUP) // what one handoff leaves behind is no leak
			h.WaitLive(2, within)
			h.WaitGone(within)
			before, threads := h.FDs(), h.Threads()
			h.Signal(syscall.SIGUSR1)
			for _, what := range []string{"pointers", "vanish", "exec", "storm", "bomb", "limit"} {
				h.WaitLog("abused: "+what, within)
				if code, body := h.Live(); code != 200 {
					t.Errorf("after %s: not alive: %s", what, body)
				}
			}
			flow(t, l, 50)
			h.Signal(syscall.SIGHUP)
			h.WaitLive(3, within)
			h.WaitLog("abused: while draining", within)
			s := h.WaitGone(within)
			nothingLost(t, l, nil)
			if len(s.Ports) != 1 {
				t.Errorf("held: %+v", s.Ports)
			}
			h.Eventually("no more descriptors than before", within, func() bool { return h.FDs() <= before })
			t.Logf("%d descriptors before, %d after; %d threads before, %d after", before, h.FDs(), threads, h.Threads())
			if n := h.CountLog("panic|takeover of ports ended"); n != 0 {
				t.Errorf("%d bad lines", n)
			}
		})
	}
}

const abuser = served + `
import ctypes, errno, random, threading, time
libc = ctypes.CDLL(None, use_errno=True)
page = ctypes.create_string_buffer(4096)
real = ctypes.addressof(page)
other = int(sys.argv[2])

def pointers():
    for family, kind in ((socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET6, socket.SOCK_DGRAM), (socket.AF_UNIX, socket.SOCK_STREAM)):
        for at in (0, 8, 1 << 47, (1 << 64) - 4, real, real + 4090):
            for length in (0, 1, 2, 15, 16, 28, 110, 111, 128, 129, 4096, 1 << 31, (1 << 32) - 1):
                s = socket.socket(family, kind)
                libc.bind(s.fileno(), ctypes.c_void_p(at), ctypes.c_uint(length))
                libc.setsockopt(s.fileno(), 1, 15, ctypes.c_void_p(at), ctypes.c_uint(length))
                libc.connect(s.fileno(), ctypes.c_void_p(at), ctypes.c_uint(length))
                s.close()
        libc.unlink(ctypes.c_void_p(at))
    for fd in (-1, 0, 1 << 30):
        libc.bind(fd, ctypes.c_void_p(real), 16); libc.listen(fd, 1); libc.setsockopt(fd, 1, 15, ctypes.c_void_p(real), 4)
    for arg in (-1, 0, 1, 1 << 30): libc.socket(arg, arg, arg); libc.socket(2, arg, arg)

def binding(port, kind=socket.SOCK_STREAM):
    s = socket.socket(socket.AF_INET, kind)
    try: s.bind(("127.0.0.1", port))
    except OSError: pass
    return s

def forever():
    while True: binding(other).close()

def vanish():
    for n in range(150):
        pid = os.fork()
        if pid == 0:
            if n % 2: threading.Thread(target=forever, daemon=True).start()
            forever()
        for _ in range(random.randrange(3000)): pass
        os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)

def thread_exits():
    for n in range(40):
        pid = os.fork()
        if pid == 0:
            for _ in range(3): threading.Thread(target=forever, daemon=True).start()
            for _ in range(random.randrange(3000)): pass
            os.execv("/bin/true", ["true"]) # which ends the other threads wherever they are
        os.waitpid(pid, 0)

def storm():
    end = time.monotonic() + 3
    n = 0
    while time.monotonic() < end:
        binding(other).close(); binding(other, socket.SOCK_DGRAM).close(); n += 2
    print("binds a second:", n // 3, flush=True)

def bomb():
    children = []
    for n in range(40):
        pid = os.fork()
        if pid == 0:
            for m in range(25): binding(other + 1 + m % 5).close()
            os._exit(0)
        children.append(pid)
    for pid in children: os.waitpid(pid, 0)

def limit():
    pid = os.fork()
    if pid == 0:
        kept = []
        for n in range(600): # more than the holder has descriptors
            try:
                s = binding(20000 + n)
                s.listen(1)
                kept.append(s)
            except OSError as e:
                if e.errno == errno.EMFILE: break
        os._exit(0)
    os.waitpid(pid, 0)

def abuse():
    # In a process of its own, with a server beside it that goes on.
    for what, f in (("pointers", pointers), ("vanish", vanish), ("exec", thread_exits), ("storm", storm), ("bomb", bomb), ("limit", limit)):
        f()
        print("abused: " + what, flush=True)

def stubborn(*a):
    for n in range(50):
        s = binding(other + 20 + n % 3)
        try: s.listen(1)
        except OSError: pass
        s.close()
    print("abused: while draining", flush=True)
    os._exit(0)

s = binding(int(sys.argv[1]))
s.listen(100)
stop, want = [], []
signal.signal(signal.SIGTERM, lambda *a: stop.append(1))
signal.signal(signal.SIGUSR1, lambda *a: want.append(1))
s.settimeout(0.05)
while True:
    try: answer(s.accept()[0])
    except TimeoutError:
        if stop: break
    if want:
        want.clear()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, end)
            s.close()
            abuse()
            os._exit(0)
if os.environ["HOLDFAST_GENERATION"] == "2": stubborn()
`
