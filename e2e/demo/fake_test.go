package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/handoff/status"
)

// faultEnv tells the stand-in for holdfast what to do wrong.
const faultEnv = "DEMO_TEST_FAULT"

// TestMain makes this test's binary stand in for the holdfast binary: for holdfast itself and for `demo serve`.
func TestMain(m *testing.M) {
	switch {
	case slices.Contains(os.Args, "--listen"):
		os.Exit(fake(os.Args[1:]))
	case len(os.Args) == 4 && os.Args[1] == "demo":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		os.Exit(Run(ctx, os.Args[0], os.Args[2:], os.Stdout))
	}
	os.Exit(m.Run())
}

// stand is the stand-in for holdfast. It has no children: it serves what the generations would, and follows the signal
// and the directory as holdfast should, or wrongly when told to.
type stand struct {
	mu      sync.Mutex
	s       status.Snapshot
	version map[int]string
	fault   string
	dir     string
}

func fake(args []string) int {
	flag := func(name string) string { return args[slices.Index(args, name)+1] }
	st := &stand{
		fault: os.Getenv(faultEnv), dir: flag("--watch"), version: map[int]string{},
		s: status.Snapshot{Live: 1, Counters: status.Counters{Handoffs: map[status.HandoffKey]uint64{}}},
	}
	st.version[1], _ = read(st.dir, "version")
	if st.fault == "dies" {
		fmt.Fprintln(os.Stderr, "no such luck")
		return 9
	}
	signals := make(chan os.Signal, 32)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM)
	ln, err := net.Listen("tcp", flag("--listen"))
	if err != nil {
		return 1
	}
	go func() { _ = http.Serve(ln, http.HandlerFunc(st.answer)) }()
	go func() { _ = http.ListenAndServe(flag("--probe-addr"), http.HandlerFunc(st.status)) }()
	known := st.version[1]
	for {
		select {
		case sig := <-signals:
			if sig == syscall.SIGTERM {
				if st.fault == "exit code" {
					return 4
				}
				return 0
			}
			time.Sleep(10 * time.Millisecond) // so that a burst is one
			for len(signals) > 0 {
				<-signals
			}
			if st.fault == "deaf" {
				continue
			}
			st.handoff()
		case <-time.After(10 * time.Millisecond):
			if v, err := read(st.dir, "version"); err == nil && v != known {
				known = v
				st.handoff()
			}
		}
	}
}

func (st *stand) handoff() {
	st.mu.Lock()
	defer st.mu.Unlock()
	version, _ := read(st.dir, "version")
	behaviour, _ := read(st.dir, "behaviour")
	h := status.Handoff{From: st.s.Live, To: len(st.version) + 1, Result: status.Completed, Triggered: time.Now(), Ended: time.Now()}
	st.version[h.To] = version
	if behaviour == behaviourBroken && st.fault != "no rollback" {
		h.Result = status.FailedHandoff
	} else {
		st.s.Live, h.CutoverAt = h.To, time.Now()
		if st.fault == "early" {
			h.CutoverAt = h.CutoverAt.Add(-time.Second)
		}
	}
	if st.fault == "stale" {
		st.version[h.To] = "v1"
	}
	st.s.Last = &h
	st.s.Recent = append(st.s.Recent, h)
	st.s.Counters.Handoffs[status.HandoffKey{Trigger: "any", Result: h.Result}]++
}

func (st *stand) status(w http.ResponseWriter, _ *http.Request) {
	st.mu.Lock()
	defer st.mu.Unlock()
	_ = json.NewEncoder(w).Encode(&st.s)
}

func (st *stand) answer(w http.ResponseWriter, r *http.Request) {
	st.mu.Lock()
	live, version := st.s.Live, st.version[st.s.Live]
	st.mu.Unlock()
	if st.fault == "lost" && live == 2 && r.Close {
		conn, _, _ := w.(http.Hijacker).Hijack()
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
		return
	}
	w.Header().Set("X-Generation", fmt.Sprint(live))
	w.Header().Set("X-Version", version)
}

// play runs the whole demo against the stand-in.
func play(t *testing.T, ctx context.Context, fault string) (int, string) {
	t.Helper()
	t.Setenv(faultEnv, fault)
	var out strings.Builder
	code := Run(ctx, "/proc/self/exe", nil, &out)
	t.Log(out.String())
	for _, l := range strings.Split(out.String(), "\n") {
		if n := len([]rune(l)); n > width {
			t.Errorf("%d columns: %s", n, l)
		}
	}
	return code, out.String()
}
