package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
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

// TestGivenSockets: what a program is told of its sockets, byte for byte as each holder's servers read it, and what it has
// as descriptors.
func TestGivenSockets(t *testing.T) {
	needPID1(t)
	t.Parallel()
	dir := scratch(t)
	out, path := filepath.Join(dir, "out"), filepath.Join(dir, "app.sock")
	v4, v6, dual, dns := freeport.Choose(t), freeport.Choose(t), freeport.Choose(t), freeport.Choose(t)
	h := harness.Run(t, harness.Options{
		PID1: true,
		Flags: []string{
			"--takeover", "off", "--ready", "delay:0s", "--settle", "1ms",
			"--activation", "nginx", "--activation", "php-fpm", "--activation", "inetd",
			"--listen", fmt.Sprintf("web=127.0.0.1:%d", v4), "--listen", fmt.Sprintf("[::1]:%d", v6),
			"--listen", fmt.Sprintf(":%d", dual), "--listen", fmt.Sprintf("dns=udp://127.0.0.1:%d", dns),
			"--listen", "unix://" + path,
		},
		Command: []string{"sh", "-c", `{ env; echo "PID=$$"; for n in 0 3 4 5 6 7; do echo "FD_$n=$(readlink /proc/$$/fd/$n)"; done; } > "$0.new"
			mv "$0.new" "$0.$HOLDFAST_GENERATION"; exec sleep 3600`, out},
		Env: []string{"LISTEN_FDS=9", "LISTEN_PID=1", "LISTEN_PIDFDID=17", "LISTEN_FDNAMES=x", "LISTEN_FDS_FIRST_FD=9", "NGINX=9;", "SERVER_STARTER_GENERATION=9"},
	})
	for generation := 1; generation <= 2; generation++ {
		h.WaitLive(generation, within)
		got := variables(t, h, fmt.Sprintf("%s.%d", out, generation))
		for name, want := range map[string]string{
			"LISTEN_FDS": "5", "LISTEN_FDNAMES": "web:unknown:unknown:dns:unknown", "LISTEN_PID": got["PID"],
			"LISTEN_PIDFDID": "", "LISTEN_FDS_FIRST_FD": "",
			"SERVER_STARTER_PORT":       fmt.Sprintf("127.0.0.1:%d=3;[::1]:%d=4;%d=5;127.0.0.1:%d=6;%s=7", v4, v6, dual, dns, path),
			"SERVER_STARTER_GENERATION": strconv.Itoa(generation),
			"EINHORN_FD_COUNT":          "5", "EINHORN_FD_0": "3", "EINHORN_FD_1": "4", "EINHORN_FD_2": "5", "EINHORN_FD_3": "6", "EINHORN_FD_4": "7",
			"EINHORN_FDS": "3 4 5 6 7",
			"NGINX":       "3;4;5;6;7;",
			"FPM_SOCKETS": fmt.Sprintf("127.0.0.1:%d=3,::1:%d=4,:::%d=5,127.0.0.1:%d=6,%s=7", v4, v6, dual, dns, path),
			"FD_0":        got["FD_3"],
		} {
			if got[name] != want {
				t.Errorf("generation %d: %s=%q, want %q", generation, name, got[name], want)
			}
		}
		var sockets []string
		for fd := 3; fd <= 7; fd++ {
			socket := got[fmt.Sprintf("FD_%d", fd)]
			if !strings.HasPrefix(socket, "socket:") || slices.Contains(sockets, socket) {
				t.Errorf("generation %d: descriptor %d is %q", generation, fd, socket)
			}
			sockets = append(sockets, socket)
		}
		h.Signal(syscall.SIGHUP)
	}
}

// variables reads what a program has written, once it has written all of it.
func variables(t *testing.T, h *harness.Holdfast, file string) map[string]string {
	t.Helper()
	h.Eventually("the program has told what it was given", within, func() bool { _, err := os.Stat(file); return err == nil })
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		all[name] = value
	}
	return all
}

// h2oConfig starts h2o, which names its generation.
const h2oConfig = `dir=$0; port=$1
cat > "$dir/h2o.$HOLDFAST_GENERATION" <<CONF
user: root
listen: { host: 127.0.0.1, port: $port }
hosts: { localhost: { paths: { /: { file.dir: $dir, header.set: "X-Generation: $HOLDFAST_GENERATION" } } } }
CONF
exec /usr/bin/h2o -m worker -c "$dir/h2o.$HOLDFAST_GENERATION"`

// TestHolders hands over real servers that take their sockets by each of the other holders' protocols, ten times under
// load. There is no takeover: a server that did not understand what it is told would find the address in use.
func TestHolders(t *testing.T) {
	needPID1(t)
	for name, c := range map[string]struct {
		program string
		flags   []string
		command func(p servers.Place) []string
	}{
		"nginx by NGINX": {"/usr/sbin/nginx", []string{"--activation", "nginx"}, func(p servers.Place) []string {
			return []string{"/bin/sh", filepath.Join(harness.Servers(t), "nginx", "start.sh"), p.Scratch, p.Port}
		}},
		"h2o by SERVER_STARTER_PORT": {"/usr/bin/h2o", nil, func(p servers.Place) []string {
			return []string{"/bin/sh", "-c", h2oConfig, p.Scratch, p.Port}
		}},
		"uvicorn on descriptor 0": {"/usr/bin/uvicorn", []string{"--activation", "inetd"}, func(servers.Place) []string {
			dir := filepath.Join(harness.Servers(t), "uvicorn")
			return []string{"/usr/bin/uvicorn", "--app-dir", dir, "--log-level", "warning", "--no-access-log", "app:app", "--fd", "0"}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := os.Stat(c.program); err != nil {
				t.Fatalf("%v: run e2e/deps.sh", err)
			}
			port := strconv.Itoa(freeport.Choose(t))
			address := net.JoinHostPort("127.0.0.1", port)
			place := servers.Place{Host: "127.0.0.1", Port: port, Scratch: scratch(t)}
			if err := os.WriteFile(filepath.Join(place.Scratch, "index.html"), []byte("hello\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			h := harness.Run(t, harness.Options{
				PID1:    true,
				Flags:   append([]string{"--takeover", "off", "--listen", address, "--settle", "200ms", "--drain-timeout", "2m"}, c.flags...),
				Command: c.command(place),
			})
			h.WaitLive(1, within)
			l := startLoad(t, address)
			flow(t, l, 50)
			var cutovers []load.Cutover
			for n := 2; n <= handoffs+1; n++ {
				h.Signal(syscall.SIGHUP)
				cutovers = append(cutovers, harness.Cutovers(h.WaitLive(n, within), time.Millisecond)...)
				flow(t, l, 30)
			}
			s := h.WaitGone(within)
			r := nothingLost(t, l, cutovers)
			if got := harness.Handoffs(s, status.Completed); got != handoffs || len(r.ByGeneration) != handoffs+1 {
				t.Errorf("%d handoffs completed, %d generations answered", got, len(r.ByGeneration))
			}
		})
	}
}
