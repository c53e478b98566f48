package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
)

// TestDeputy: a program that has given up being root gets from the takeover nothing that the kernel would refuse it, although
// it is holdfast, which is root, that binds for it: no port below 1024, no path in a directory that it may not write to,
// no option that needs a capability. What it may have it gets, and that is held.
func TestDeputy(t *testing.T) {
	needPID1(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be given up")
	}
	t.Parallel()
	said := map[string]string{}
	for _, takeover := range []string{"off", "require"} {
		dir := scratch(t)
		if err := os.Mkdir(filepath.Join(dir, "closed"), 0o755); err != nil {
			t.Fatal(err)
		}
		// 61,200 is a member of the group, which may write there.
		group := filepath.Join(dir, "group")
		if err := os.Mkdir(group, 0o770); err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{os.Chown(group, 0, 61_201), os.Chmod(group, 0o770)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		number := strconv.Itoa(freeport.Choose(t))
		h := harness.Run(t, harness.Options{
			PID1: true, Flags: []string{"--takeover", takeover, "--ready", "delay:0s"},
			Command: []string{
				"setpriv", "--reuid=61200", "--regid=61200", "--groups=61201", "--inh-caps=-all",
				python, "-c", deputised, dir, freePrivileged(t), number,
			},
		})
		said[takeover] = h.WaitLog("^tried:", within)
		s := h.Status()
		var held []string
		for _, p := range s.Ports {
			held = append(held, strings.ReplaceAll(p.Port, dir, "DIR"))
		}
		if want := "unix://DIR/x.sock unix://DIR/group/x.sock 127.0.0.1:" + number; takeover != "off" && strings.Join(held, " ") != want {
			t.Errorf("held: %q, want %q", held, want)
		}
	}
	const want = "tried: privileged EACCES, closed EACCES, own ok, group ok, transparent EPERM, elsewhere EADDRNOTAVAIL, any ok"
	for takeover, got := range said {
		if got != want {
			t.Errorf("--takeover %s: %q, want %q", takeover, got, want)
		}
	}
}

// freePrivileged is a port below 1024 that nobody has.
func freePrivileged(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if n, _ := strconv.Atoi(strings.TrimSpace(string(b))); err != nil || n < 1024 {
		t.Skip("ports below 1024 are anybody's here")
	}
	return strconv.Itoa(1023 - os.Getpid()%400)
}

// deputised tries to bind.
const deputised = `
import errno, os, socket, sys, time
dir, privileged, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
kept, said = [], []
def attempt(what, f):
    try:
        f()
        said.append(what + " ok")
    except OSError as e:
        said.append(what + " " + errno.errorcode[e.errno])
def bind(family, address):
    s = socket.socket(family)
    s.bind(address)
    s.listen(1)
    kept.append(s)
s = socket.socket()
attempt("privileged", lambda: bind(socket.AF_INET, ("127.0.0.1", privileged)))
attempt("closed", lambda: bind(socket.AF_UNIX, dir + "/closed/x.sock"))
attempt("own", lambda: bind(socket.AF_UNIX, dir + "/x.sock"))
attempt("group", lambda: bind(socket.AF_UNIX, dir + "/group/x.sock"))
attempt("transparent", lambda: s.setsockopt(socket.IPPROTO_IP, 19, 1)) # and the bind after it must not have it either
attempt("elsewhere", lambda: s.bind(("192.0.2.1", number)))
attempt("any", lambda: bind(socket.AF_INET, ("127.0.0.1", number)))
print("tried: " + ", ".join(said), flush=True)
time.sleep(3600)
`
