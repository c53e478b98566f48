package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/e2e/load"
	"holdfast/e2e/servers"
	"holdfast/handoff/status"
)

// handoffs is how many each real server goes through.
const handoffs = 10

// TestRealServers hands over each server that takes inherited sockets, ten times under load from new and from kept
// connections at once: nothing is refused, reset or lost, and every new connection is answered by the generation that
// was live.
func TestRealServers(t *testing.T) {
	needPID1(t)
	for _, server := range servers.All(harness.Servers(t)) {
		if server.Activated == nil {
			continue
		}
		for _, unprivileged := range []bool{false, true} {
			user := map[bool]string{false: "root", true: "uid 65532 without capabilities"}[unprivileged]
			t.Run(server.Name+"/"+user, func(t *testing.T) {
				t.Parallel()
				if missing := server.Missing(); missing != "" {
					t.Fatal(missing)
				}
				handOver(t, server, unprivileged)
			})
		}
	}
}

func handOver(t *testing.T, server servers.Server, unprivileged bool) {
	port := strconv.Itoa(freeport.Choose(t))
	address := net.JoinHostPort("127.0.0.1", port)
	place := servers.Place{Host: "127.0.0.1", Port: port}
	if server.Name == "go" || server.Name == "go-named" {
		place.GoActivation = goActivation(t)
	}
	h := harness.Run(t, harness.Options{
		PID1: true, Unprivileged: unprivileged,
		Flags:   []string{"--listen", "web=" + address, "--settle", "200ms", "--drain-timeout", "2m"},
		Command: server.Activated(place),
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
	r := nothingLost(t, l, cutovers)
	if got := harness.Handoffs(s, status.Completed); got != handoffs {
		t.Errorf("%d handoffs completed, want %d", got, handoffs)
	}
	if len(r.ByGeneration) != handoffs+1 {
		t.Errorf("%d generations answered, want %d: %v", len(r.ByGeneration), handoffs+1, r.ByGeneration)
	}
	if z := h.Zombies(); z != 0 {
		t.Errorf("%d zombies", z)
	}
	h.Signal(syscall.SIGTERM)
	h.Wait(within)
}

// goActivation builds the Go server that takes its sockets by go-systemd, once.
func goActivation(t *testing.T) string {
	t.Helper()
	out := filepath.Join(filepath.Dir(harness.Naughty(t)), "goactivation")
	buildGoActivation.Do(func() {
		if err := servers.BuildGoActivation(harness.Servers(t), out); err != nil {
			t.Fatal(err)
		}
	})
	return out
}

var buildGoActivation sync.Once

// TestManyPorts holds IPv4, IPv6, dual-stack, UDP and unix addresses at once and hands all of them over.
func TestManyPorts(t *testing.T) {
	needPID1(t)
	dir := t.TempDir()
	v4, v6, dual, dns := freeport.Choose(t), freeport.Choose(t), freeport.Choose(t), freeport.Choose(t)
	path := dir + "/app.sock"
	h := harness.Run(t, harness.Options{
		PID1: true,
		Flags: []string{
			"--settle", "200ms",
			"--listen", fmt.Sprintf("127.0.0.1:%d", v4), "--listen", fmt.Sprintf("[::1]:%d", v6),
			"--listen", fmt.Sprintf(":%d", dual), "--listen", fmt.Sprintf("udp://127.0.0.1:%d", dns),
			"--listen", "unix://" + path + "?mode=0600",
		},
		Command: []string{harness.Naughty(t)},
	})
	h.WaitLive(1, within)
	loads := map[string]*load.Load{}
	for _, address := range []string{
		fmt.Sprintf("127.0.0.1:%d", v4), fmt.Sprintf("[::1]:%d", v6),
		fmt.Sprintf("127.0.0.1:%d", dual), fmt.Sprintf("[::1]:%d", dual),
	} {
		loads[address] = load.New(load.Options{Address: address, NewWorkers: 1, KeepAliveWorkers: 1, Timeout: within})
	}
	loads[path] = load.New(load.Options{Network: "unix", Address: path, NewWorkers: 1, KeepAliveWorkers: 1, Timeout: within})
	for _, l := range loads {
		l.Start(t.Context())
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
	h.WaitGone(within)
	for name, l := range loads {
		t.Log(name)
		r := nothingLost(t, l, nil)
		if len(r.ByGeneration) < 5 {
			t.Errorf("%s was answered by the generations %v", name, r.Generations())
		}
	}
	if r := datagrams.Stop(); r.Lost() != 0 || r.Requests == 0 {
		t.Errorf("datagrams: %v", r)
	}
}
