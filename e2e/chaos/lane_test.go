package chaos

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/e2e/load"
	"holdfast/e2e/servers"
	"holdfast/handoff/status"
)

// server is what a lane's holdfast runs.
type server struct {
	name    string
	flags   []string
	command func(servers.Place) []string
	listen  bool   // the port is holdfast's from the start; else it is taken over
	path    string // what is asked for; slow ones are under way when something happens
}

// lane is one holdfast with its server, its load and its share of the handoffs. Lanes run beside each other.
type lane struct {
	t       *testing.T
	server  server
	uid     int
	dir     string // a small file system of its own
	port    int
	h       *harness.Holdfast
	load    *load.Load
	cgroup  cgroup
	account account
	counts  counts
	open    []string       // descriptors, before
	events  sync.WaitGroup // disturbances under way

	mu         sync.Mutex // of what disturbances write down
	disturbed  map[string]uint64
	impossible map[string]string
	flips      int
}

const (
	newClients, keptClients = 4, 4
	diskMiB                 = 8
)

// newLane starts holdfast as a user that nobody else is, so that the limits of that user are its own.
func newLane(t *testing.T, s server, uid int) *lane {
	t.Helper()
	l := &lane{
		t: t, server: s, uid: uid, port: freeport.Choose(t),
		disturbed: map[string]uint64{}, impossible: map[string]string{},
	}
	l.makeDisk()
	l.order("")
	l.mustWrite("watch/config", "0")
	place := servers.Place{Host: "127.0.0.1", Port: strconv.Itoa(l.port), Scratch: l.path("scratch")}
	flags := append([]string{
		"--watch", l.path("watch"), "--watch-debounce", "50ms", "--settle", "200ms", "--drain-timeout", "10s", "--ready-timeout", "8s",
		"--restart", "always",
	}, s.flags...) // the last one counts
	if s.listen {
		flags = append(flags, "--listen", l.address())
	} else {
		flags = append(flags, "--takeover", "require")
	}
	user := strconv.Itoa(uid)
	l.h = harness.Run(t, harness.Options{
		PID1: true, Flags: flags, Dir: "/",
		Wrap: []string{
			"setpriv", "--reuid=" + user, "--regid=" + user, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs",
			"--pdeathsig", "KILL",
		},
		Env:     []string{"CHAOS_ORDERS=" + l.path("orders/next"), "TMPDIR=" + l.path("scratch"), "HOME=" + l.path("scratch")},
		Command: append([]string{"/bin/sh", "-c", wrapper, "sh"}, s.command(place)...),
	})
	l.cgroup = newCgroup(t, l.h.PID())
	return l
}

// wrapper does what is ordered for one start, once, and becomes the server.
const wrapper = `if mv "$CHAOS_ORDERS" "$CHAOS_ORDERS.$$" 2>/dev/null; then . "$CHAOS_ORDERS.$$"; fi; exec "$@"`

func (l *lane) path(name string) string { return filepath.Join(l.dir, name) }
func (l *lane) address() string         { return net.JoinHostPort("127.0.0.1", strconv.Itoa(l.port)) }

func (l *lane) makeDisk() {
	l.t.Helper()
	dir, err := os.MkdirTemp("", "holdfast-chaos-") // not t.TempDir: no other user may enter that
	if err != nil {
		l.t.Fatal(err)
	}
	l.dir = dir
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=755", diskMiB)); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { // the last one: holdfast has ended by then
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		_ = os.Remove(dir)
	})
	for _, name := range []string{"watch", "orders", "scratch"} {
		if err := os.Mkdir(l.path(name), 0o755); err != nil {
			l.t.Fatal(err)
		}
		if err := os.Chown(l.path(name), l.uid, l.uid); err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *lane) mustWrite(name, text string) {
	l.t.Helper()
	if err := l.write(name, text); err != nil {
		l.t.Fatal(err)
	}
}

// write puts a file in its place, whole.
func (l *lane) write(name, text string) error {
	tmp := l.path("." + filepath.Base(name))
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, l.path(name))
}

// order says what is wrong with the next start; "" takes back what has not been carried out.
func (l *lane) order(script string) {
	l.t.Helper()
	if script == "" {
		_ = os.Remove(l.path("orders/next"))
		return
	}
	l.mustWrite("orders/next", script+"\n")
}

// run goes through the plan under load and counts.
func (l *lane) run(steps []step) {
	l.t.Helper()
	began := time.Now()
	l.h.WaitLive(1, patience)
	l.load = load.New(load.Options{
		Address: l.address(), Path: l.server.path, NewWorkers: newClients, KeepAliveWorkers: keptClients, Think: 3 * time.Millisecond,
		Timeout: patience, Duration: time.Hour, MaxFailures: 100_000, MaxRecords: 1,
	})
	l.load.Start(l.t.Context())
	for range 2 { // calm, so that what is made once is there before it is counted
		l.step(step{trigger: "signal"}, -1)
	}
	l.h.WaitGone(patience)
	l.counts.Before, l.open = l.resources(), l.h.FDTargets()
	for i, s := range steps {
		if l.t.Failed() {
			break
		}
		l.t.Logf("%s, handoff %d: %v", l.server.name, i, s)
		l.step(s, i)
	}
	l.finish(began)
}

// step asks for one handoff, disturbs it, and waits until it has ended and somebody serves.
func (l *lane) step(s step, i int) {
	l.t.Helper()
	calm := len(s.disturbances) == 0 && s.orders == ""
	if calm {
		l.h.WaitGone(patience)
	}
	before := l.h.WaitStatus("it answers", patience, func(*status.Snapshot) bool { return true })
	ended, failed := harness.Handoffs(before, ""), harness.Handoffs(before, status.FailedHandoff)
	l.order(s.orders)
	l.trigger(s.trigger, i)
	defer l.events.Wait() // also where the step fails: they have things to say
	for _, d := range s.disturbances {
		l.events.Go(func() { l.disturb(d) })
	}
	after := l.h.WaitStatus(fmt.Sprintf("handoff %d has ended (%v) and a generation serves", i, s), patience, func(now *status.Snapshot) bool {
		return harness.Handoffs(now, "") > ended && now.Handoff == nil && !now.Pending && now.Live != 0 && now.Ready.Live == ""
	})
	l.events.Wait()
	l.order("")
	if calm && harness.Handoffs(after, status.FailedHandoff) > failed {
		l.t.Errorf("%s: handoff %d failed, and nothing was wrong: %+v", l.server.name, i, after.Last)
	}
}

// trigger asks for a handoff in one of the ways.
func (l *lane) trigger(how string, i int) {
	l.t.Helper()
	switch how {
	case "storm":
		l.storm(20)
	case "command":
		if code, out := l.h.Command("reload"); code != 0 {
			l.t.Errorf("reload: %d: %s", code, out)
		}
	case "watch":
		l.mustWrite("watch/config", fmt.Sprintf("handoff %d", i))
	default:
		l.h.Signal(syscall.SIGHUP)
	}
}

func (l *lane) storm(n int) {
	for range n {
		_ = l.h.TrySignal(syscall.SIGHUP)
	}
}

// finish lets everything come to rest, ends holdfast and judges.
func (l *lane) finish(began time.Time) {
	l.t.Helper()
	if l.t.Failed() {
		l.load.Stop()
		return
	}
	l.step(step{trigger: "signal"}, -1)
	end := l.h.WaitGone(patience)
	r := l.load.Stop()
	c := &l.counts
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		c.After = l.resources()
		if c.After.within(c.Before) {
			break
		}
		if time.Now().After(deadline) {
			l.t.Errorf("%s: it has %v\nbefore it had %v\nopen now: %q\nbefore:   %q", l.server.name, c.After, c.Before, l.h.FDTargets(), l.open)
			break
		}
	}
	c.load(r)
	c.Took = time.Since(began)
	c.Handoffs = map[string]uint64{}
	for key, n := range end.Counters.Handoffs {
		c.Handoffs[key.Result] += n
	}
	c.Disturbed, c.Impossible = l.disturbed, l.impossible
	for _, g := range end.Generations {
		c.Started = max(c.Started, uint64(g.Number))
	}
	c.Gone = uint64(l.h.CountLog(`msg="generation gone"`))
	var lost []load.Request
	c.Excused, lost = l.account.judge(r.Failures, l.h.Log())
	c.Lost = uint64(len(lost))
	l.t.Logf("%s: %v\nbefore: %v\nafter:  %v\nexceptions: %v", l.server.name, shortened(r), c.Before, c.After, c.Excused)
	for _, f := range lost[:min(len(lost), 20)] {
		l.t.Errorf("%s: lost: %s %s in %s, %v to %v (retried %v): %s", l.server.name, f.Kind, f.Outcome, f.Phase,
			f.Connect.Format("15:04:05.000"), f.Answered.Format("15:04:05.000"), f.Retried, f.Error)
	}
	l.checkRest(end)
	l.h.Signal(syscall.SIGTERM)
	l.h.Wait(patience)
}

// checkRest looks at what is left of a run.
func (l *lane) checkRest(end *status.Snapshot) {
	l.t.Helper()
	c := l.counts
	if c.Lost > 0 {
		l.t.Errorf("%s: %d requests were lost", l.server.name, c.Lost)
	}
	if most := uint64(len(l.account.kills) * (newClients + keptClients)); c.Excused[excuseKilled] > most {
		l.t.Errorf("%s: %d requests were lost by %d kills: more than there were clients", l.server.name, c.Excused[excuseKilled], len(l.account.kills))
	}
	if c.Gone+1 != c.Started {
		l.t.Errorf("%s: %d generations were started, %d are gone, 1 is live: %+v", l.server.name, c.Started, c.Gone, end.Generations)
	}
	if c.After.Zombies != 0 {
		l.t.Errorf("%s: %d zombies", l.server.name, c.After.Zombies)
	}
	if c.After.KiB > c.Before.KiB+16<<10 {
		l.t.Errorf("%s: %d KiB resident, were %d", l.server.name, c.After.KiB, c.Before.KiB)
	}
}

// shortened is a result without its failures, which are judged one by one.
func shortened(r load.Result) load.Result {
	r.Failures = nil
	return r
}

// resources counts what holdfast has now.
func (l *lane) resources() resources {
	l.t.Helper()
	r := resources{Descriptors: l.h.FDs(), Threads: l.h.Threads(), Zombies: l.h.Zombies(), Members: listening(l.port)}
	for line := range strings.Lines(l.h.Metrics()) {
		if n, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			r.Goroutines, _ = strconv.Atoi(strings.TrimSpace(n))
		}
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.h.PID()))
	if err != nil {
		l.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			r.KiB, _ = strconv.ParseUint(f[1], 10, 64)
		}
	}
	return r
}

// listening counts the sockets that listen on a port of IPv4, as the kernel shows them (proc_pid_net(5)): members of the
// group that nobody points at any more are among them.
func listening(port int) int { return inState(port, "0A") }

func inState(port int, state string) (n int) {
	f, err := os.Open("/proc/self/net/tcp")
	if err != nil {
		return -1
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 3 && fields[3] == state && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) {
			n++
		}
	}
	return n
}

func lanes(t *testing.T) []server {
	all := map[string]servers.Server{}
	for _, s := range servers.All(harness.Servers(t)) {
		if why := s.Missing(); why != "" {
			t.Fatal(why)
		}
		all[s.Name] = s
	}
	return []server{
		{name: "a Go server, --listen, --soak", listen: true, path: "/slow?ms=15", flags: []string{"--soak", "400ms"},
			command: func(servers.Place) []string { return []string{harness.Naughty(t)} }},
		{name: "gunicorn, --listen", listen: true, command: all["gunicorn"].Activated},
		{name: "nginx, takeover", command: all["nginx"].Binding},
		{name: "Node, takeover", path: "/slow?ms=8", command: all["node"].Binding},
	}
}
