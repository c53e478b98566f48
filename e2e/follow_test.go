package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/handoff/status"
)

// selfReplacing is a server that forks its successor at SIGUSR2, hands it its socket and exits, as nginx, tableflip and
// many others do. It answers with its pid, and ends at SIGTERM with code 6.
const selfReplacing = `
import os, signal, socket, sys
fd = os.environ.get("SOCKET")
if fd:
    s = socket.socket(fileno=int(fd))
else:
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", int(sys.argv[2])))
    s.listen(64)
s.settimeout(0.05)
replace = False
def usr2(*_):
    global replace
    replace = True
signal.signal(signal.SIGUSR2, usr2)
signal.signal(signal.SIGTERM, lambda *_: os._exit(6))
if fd and sys.argv[1] == "mainpid":
    n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    n.sendto(b"MAINPID=%d" % os.getpid(), "\0" + os.environ["NOTIFY_SOCKET"][1:])
if fd:
    os.close(int(os.environ["PARENT"])) # it runs: the parent may go
while True:
    try:
        c, _ = s.accept()
        c.recv(1000)
        c.sendall(b"%d" % os.getpid())
        c.close()
    except TimeoutError:
        pass
    if replace:
        r, w = os.pipe()
        if os.fork() == 0:
            os.close(r)
            os.set_inheritable(s.fileno(), True)
            os.set_inheritable(w, True)
            os.environ["SOCKET"], os.environ["PARENT"] = str(s.fileno()), str(w)
            os.execv(sys.executable, [sys.executable, "-c", sys.argv[3], *sys.argv[1:]])
        os.close(w)
        os.read(r, 1)
        os._exit(0)
`

// TestFollow: a server that replaces itself goes on, and what is sent to it reaches the one that runs now.
func TestFollow(t *testing.T) {
	needPID1(t)
	for _, how := range []string{"sockets", "mainpid", "without a takeover", "to the group"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			port := freeport.Choose(t)
			flags := []string{"--follow"}
			switch how {
			case "to the group": // a successor is in that of the first main process, and leads none
				flags = append(flags, "--group")
			case "without a takeover":
				flags = append(flags, "--takeover", "off", "--ready", "tcp:"+fmt.Sprint(port))
			}
			h := harness.Run(t, harness.Options{
				PID1: true, Flags: flags,
				Command: []string{"/usr/bin/python3", "-c", selfReplacing, how, fmt.Sprint(port), selfReplacing},
			})
			main := h.WaitLive(1, within).Generations[0].PID
			for range 3 {
				h.Signal(syscall.SIGUSR2)
				s := h.WaitStatus("another process is the main one", within, func(s *status.Snapshot) bool {
					return len(s.Generations) == 1 && s.Generations[0].PID != main && s.Generations[0].PID != 0
				})
				main = s.Generations[0].PID
				if got := ask(t, port); got != fmt.Sprint(main) {
					t.Errorf("pid %s answers, and the status says %d", got, main)
				}
			}
			h.Signal(syscall.SIGTERM)
			if code := h.Wait(within); code != 6 {
				t.Errorf("exit code %d, want the successor's 6", code)
			}
		})
	}
}

// worker has no socket at all: it names its successor and exits at once, so that its message and its end arrive together.
const worker = `
import os, signal, socket, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGTERM])
n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
n.connect("\0" + os.environ["NOTIFY_SOCKET"][1:])
if len(sys.argv) > 2:
    os.close(int(sys.argv[2])) # its signals are blocked: the parent may go
else:
    n.send(b"READY=1")
while True:
    s = signal.sigwait([signal.SIGUSR2, signal.SIGTERM])
    if s == signal.SIGTERM:
        os._exit(6)
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(r)
        os.set_inheritable(w, True)
        os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], sys.argv[1], str(w)])
    os.close(w)
    os.read(r, 1)
    n.send(b"MAINPID=%d" % pid)
    os._exit(0)
`

// TestFollowWorker: what a main process says last is heard before its end counts, and what is sent to it meanwhile reaches
// its successor.
func TestFollowWorker(t *testing.T) {
	needPID1(t)
	t.Parallel()
	h := harness.Run(t, harness.Options{
		PID1: true, Flags: []string{"--follow", "--ready", "notify"},
		Command: []string{"/usr/bin/python3", "-c", worker, worker},
	})
	main := h.WaitLive(1, within).Generations[0].PID
	for range 20 {
		h.Signal(syscall.SIGUSR2)
		s := h.WaitStatus("another process is the main one", within, func(s *status.Snapshot) bool {
			return len(s.Generations) == 1 && s.Generations[0].PID != main && s.Generations[0].PID != 0
		})
		main = s.Generations[0].PID
	}
	h.Signal(syscall.SIGTERM)
	if code := h.Wait(within); code != 6 {
		t.Errorf("exit code %d, want the successor's 6", code)
	}
}

// TestNoFollow: without the flag the end of the main process is the end.
func TestNoFollow(t *testing.T) {
	needPID1(t)
	t.Parallel()
	h := harness.Run(t, harness.Options{
		PID1:    true,
		Command: []string{"/usr/bin/python3", "-c", selfReplacing, "sockets", fmt.Sprint(freeport.Choose(t)), selfReplacing},
	})
	h.WaitLive(1, within)
	h.Signal(syscall.SIGUSR2)
	if code := h.Wait(within); code != 0 {
		t.Errorf("exit code %d, want the main process' 0", code)
	}
}

func ask(t *testing.T, port int) string {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("who")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 20)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// TestNeglect: who leaves zombies behind is named, in the log and in the status.
func TestNeglect(t *testing.T) {
	needPID1(t)
	t.Parallel()
	// A shell waits for its own; what it becomes knows nothing of them. The orphan's end has holdfast look.
	end := newGate(t)
	h := harness.Run(t, harness.Options{
		PID1: true, Flags: []string{"--ready", "delay:0s"},
		Command: []string{"sh", "-c", `(until [ -e "$0" ]; do sleep 0.05; done &); true & true & true & exec sleep 3601`, string(end)},
	})
	h.WaitLive(1, within)
	h.Eventually("the three are zombies", within, func() bool { return h.Zombies() == 3 })
	end.open(t)
	if code, text := h.Command("status"); code != 0 || !strings.Contains(text, "(sleep 3601) leaves zombies behind: 3 now") {
		t.Errorf("status: %d\n%s", code, text)
	}
	var doc struct {
		Live    int
		Neglect []struct {
			PID, Zombies int
			Command      string
		}
	}
	if code, text := h.Command("status", "-o", "json"); code != 0 || json.Unmarshal([]byte(text), &doc) != nil || doc.Live != 1 ||
		len(doc.Neglect) != 1 || doc.Neglect[0].Zombies != 3 || doc.Neglect[0].Command != "sleep 3601" || doc.Neglect[0].PID == 0 {
		t.Errorf("status -o json: %d, %+v\n%s", code, doc, text)
	}
	line := h.WaitLog("leaves zombies behind", within)
	for _, want := range []string{`command="sleep 3601"`, "zombies=3", "pid="} {
		if !strings.Contains(line, want) {
			t.Errorf("want %s in %s", want, line)
		}
	}
}
