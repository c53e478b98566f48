package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
)

// TestReusePort: servers with a listener for each worker. Each is proven, all get their share, nothing is lost.
func TestReusePort(t *testing.T) {
	needPID1(t)
	const workers = 3
	for name, command := range map[string]func(port, dir string) []string{
		"nginx": func(port, dir string) []string {
			conf := fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log stderr; worker_processes %[3]d; env HOLDFAST_GENERATION;
events {}
http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
server { listen 127.0.0.1:%[2]s reuseport; location / { add_header X-Generation GENERATION; add_header X-Worker $pid; return 200 ok; } } }`, dir, port, workers)
			file := filepath.Join(dir, "template")
			if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
				t.Fatal(err)
			}
			return []string{"sh", "-c", `g=$HOLDFAST_GENERATION; sed "s/GENERATION;/$g;/;s/env $g;//;s,/pid;,/pid$g;," "$0/template" >"$0/$g.conf"; exec /usr/sbin/nginx -p "$0" -c "$0/$g.conf"`, dir}
		},
		"gunicorn": func(port, dir string) []string {
			return []string{"/usr/bin/gunicorn", "--chdir", filepath.Join(harness.Servers(t), "gunicorn"), "-w", "2", "--reuse-port", "--log-level", "warning", "--bind", "127.0.0.1:" + port, "app:app"}
		},
		"go": func(port, dir string) []string {
			source, program := filepath.Join(dir, "server.go"), filepath.Join(dir, "server")
			if err := os.WriteFile(source, []byte(fmt.Sprintf(manyListeners, workers)), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("go", "build", "-o", program, source).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return []string{program, "127.0.0.1:" + port}
		},
		"processes": func(port, dir string) []string {
			return []string{python, "-c", served + `
for n in range(` + strconv.Itoa(workers) + `):
    if os.fork() == 0:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.bind(("127.0.0.1", int(sys.argv[1])))
        s.listen(100)
        os.write(1, b"worker %d\n" % os.getpid())
        s.settimeout(0.1)
        stop = []
        signal.signal(signal.SIGTERM, lambda *a: stop.append(1))
        while True:
            try: answer(s.accept()[0])
            except TimeoutError:
                if stop: os._exit(0)
children = []
def end(*a): os.kill(0, signal.SIGTERM) if not children.append(1) and len(children) == 1 else None
signal.signal(signal.SIGTERM, end)
for n in range(` + strconv.Itoa(workers) + `): os.wait()
`, port}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port := strconv.Itoa(freeport.Choose(t))
			h := harness.Run(t, harness.Options{
				PID1: true, Flags: []string{"--settle", "200ms", "--drain-timeout", "2m"}, Command: command(port, scratch(t)),
			})
			h.WaitLive(1, within)
			handOverUnderLoad(t, h, "tcp", "127.0.0.1:"+port, handoffs)
			if name == "gunicorn" {
				return // its workers share one
			}
			shares := map[string]int{}
			for range 300 {
				shares[workerOf(t, "127.0.0.1:"+port)]++
			}
			t.Logf("shares of 300 connections: %v", shares)
			for worker, share := range shares {
				if share < 30 || len(shares) != workers {
					t.Errorf("%s got %d of 300, of %d workers", worker, share, len(shares))
				}
			}
		})
	}
}

// manyListeners is a Go server with several listeners on one address, each served by an http.Server of its own.
const manyListeners = `package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

func main() {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, 15, 1) })
	}}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	var servers sync.WaitGroup
	for n := range %d {
		l, err := config.Listen(stop, "tcp", os.Args[1])
		if err != nil {
			panic(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Generation", os.Getenv("HOLDFAST_GENERATION"))
			w.Header().Set("X-Worker", fmt.Sprint(n))
		})}
		servers.Go(func() { s.Serve(l) })
		servers.Go(func() { <-stop.Done(); s.Shutdown(context.Background()) })
	}
	servers.Wait()
}
`

// workerOf asks once, on a connection of its own, who answers.
func workerOf(t *testing.T, address string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.Header.Get("X-Worker")
}
