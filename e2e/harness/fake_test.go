package harness

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/handoff/status"
)

// fakeEnv makes this test's binary a stand-in for holdfast, so that the harness itself can be tested.
const fakeEnv = "HARNESS_TEST_FAKE"

func TestMain(m *testing.M) {
	if os.Getenv(fakeEnv) != "" {
		os.Exit(fake(os.Args[1:]))
	}
	os.Exit(Main(m))
}

// useFake makes Run start the stand-in.
func useFake(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} { // a user without privileges must reach it
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "holdfast")
	if err := os.WriteFile(bin, self, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(binEnv, bin)
	t.Setenv(fakeEnv, "1")
}

// fake does what its command line says: serve, exit N, die, or echo its arguments.
func fake(args []string) int {
	i := slices.Index(args, "--")
	flags, command := args[:i], args[i+1:]
	fmt.Fprintf(os.Stderr, "fake pid=%d uid=%d flags=%q\n", os.Getpid(), os.Geteuid(), flags)
	switch command[0] {
	case "exit":
		n, _ := strconv.Atoi(command[1])
		return n
	case "die":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Minute)
	case "serve":
		addr := ""
		for _, f := range flags {
			if a, ok := strings.CutPrefix(f, "--probe-addr="); ok {
				addr = a
			}
		}
		return fakeServe(addr)
	}
	return 99
}

func fakeServe(addr string) int {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGUSR1)
	child := exec.Command("sleep", "1000")
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // in no process group of ours
	if err := child.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	b, _ := os.ReadFile("/proc/self/status")
	for l := range strings.Lines(string(b)) {
		if strings.HasPrefix(l, "Cap") || strings.HasPrefix(l, "NoNewPrivs") {
			fmt.Fprint(os.Stderr, l)
		}
	}
	var mu sync.Mutex
	s := status.Snapshot{Live: 1}
	s.Counters.Handoffs = map[status.HandoffKey]uint64{}
	http.HandleFunc("/statusz", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(w).Encode(status.Document{Snapshot: &s, Queues: []status.Queue{{Port: "p", Length: 3}}})
	})
	http.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "[-]live failed: "+r.URL.RawQuery)
	})
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metric 1\n") })
	go func() { _ = http.ListenAndServe(addr, nil) }()
	fmt.Println("serving")
	for sig := range signals {
		switch sig {
		case syscall.SIGTERM:
			return 7
		case syscall.SIGUSR1:
			_ = exec.Command("true").Start() // never waited for
			fmt.Fprintln(os.Stderr, "zombie made")
		case syscall.SIGHUP:
			mu.Lock()
			s.Counters.Handoffs[status.HandoffKey{Trigger: "signal", Result: status.Completed}]++
			s.Recent = append(s.Recent, status.Handoff{From: s.Live, To: s.Live + 1, Result: status.Completed, CutoverAt: time.Now(),
				Seconds: map[status.Phase]float64{status.PhaseCutover: .001}})
			s.Live++
			mu.Unlock()
		}
	}
	return 0
}
