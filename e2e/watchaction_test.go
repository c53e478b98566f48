package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/handoff/status"
)

// told waits until so many watch actions have ended with a result, and returns the status.
func (w *watcher) told(result string, n uint64) *status.Snapshot {
	return w.WaitStatus(fmt.Sprintf("%d watch actions have %s", n, result), within, func(s *status.Snapshot) bool {
		return s.WatchAction != nil && s.Counters.WatchActions[result] == n && s.WatchAction.Now == nil
	})
}

// says fails the test for each line that is not in the metrics.
func (w *watcher) says(t *testing.T, lines ...string) {
	t.Helper()
	metrics := w.Metrics()
	for _, line := range lines {
		if !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("the metrics do not say %s", line)
		}
	}
}

// TestWatchActionNginx: nginx, which reloads itself, is sent SIGHUP when its ConfigMap changes and the check has passed.
func TestWatchActionNginx(t *testing.T) {
	t.Parallel()
	address := fmt.Sprintf("127.0.0.1:%d", freeport.Choose(t))
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil { // for nginx's own directories, which it makes as another user
		t.Fatal(err)
	}
	conf := func(serve string) map[string]string {
		return map[string]string{"nginx.conf": fmt.Sprintf(`
			worker_processes 2; daemon off; pid %[1]s/pid; error_log stderr warn;
			events { worker_connections 256; }
			http {
				client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
				uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi; access_log off;
				server { listen %[2]s; location / { %[3]s } }
			}`, dir, address, serve)}
	}
	v := newVolume(t, conf(`return 200 "one";`))
	w := &watcher{address: address, Holdfast: harness.Run(t, harness.Options{
		Flags: []string{
			"--watch", v.dir, "--watch-debounce", "50ms", "--watch-action", "signal:HUP",
			"--check", "nginx -t -q -c " + v.path("nginx.conf"),
		},
		Command: []string{"nginx", "-c", v.path("nginx.conf")},
	})}
	first := w.WaitLive(1, within)
	serves := func(want string) {
		t.Helper()
		w.Eventually("nginx serves "+want, within, func() bool {
			client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
			resp, err := client.Get("http://" + address)
			if err != nil {
				t.Errorf("a request was lost: %v", err)
				return true
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			return err == nil && string(b) == want
		})
	}
	serves("one")

	v.publish(t, conf(`return 200 "two";`))
	s := w.told(status.Completed, 1)
	if s.Live != 1 || harness.Handoffs(s, "") != 0 || s.ConfigHash == first.ConfigHash || s.ConfigHash != s.ConfigLatest {
		t.Errorf("after a change: generation %d, %d handoffs, configuration %s → %s, on disk %s",
			s.Live, harness.Handoffs(s, ""), first.ConfigHash, s.ConfigHash, s.ConfigLatest)
	}
	serves("two")
	w.WaitLog("watch action completed.*action=signal:HUP generation=1 config="+s.ConfigHash, within)
	w.says(t, `holdfast_watch_actions_total{result="completed"} 1`, `holdfast_config_hash_info{hash="`+s.ConfigHash+`"} 1`,
		"holdfast_last_watch_action_successful 1", "holdfast_config_current 1")

	v.publish(t, conf(`retrun 200;`))
	broken := w.told(status.FailedHandoff, 1)
	if last := broken.WatchAction.Last; !strings.Contains(last.Reason, "retrun") || broken.ConfigRejected != broken.ConfigLatest || broken.ConfigHash != s.ConfigHash {
		t.Errorf("after a broken change: %+v, rejected %s, on disk %s, live from %s", last, broken.ConfigRejected, broken.ConfigLatest, broken.ConfigHash)
	}
	w.says(t, `holdfast_watch_actions_total{result="failed"} 1`, "holdfast_last_watch_action_successful 0", "holdfast_config_rejected 1")
	if _, text := w.Command("status"); !strings.Contains(text, "on a change: signal:HUP") || !strings.Contains(text, "FAILED") {
		t.Errorf("holdfast status does not tell:\n%s", text)
	}
	serves("two")

	v.publish(t, conf(`return 200 "two";`)) // back to what is live already
	w.told(status.Completed, 2)
	w.says(t, "holdfast_last_watch_action_successful 1", "holdfast_config_rejected 0", "holdfast_config_current 1")
	serves("two")

	w.Signal(syscall.SIGHUP) // a handoff all the same, for who wants one
	w.WaitLive(2, within)
	serves("two")
}

// TestWatchAction is what can come of a watch action besides.
func TestWatchAction(t *testing.T) {
	type env struct {
		*watcher
		v   *volume
		dir string
	}
	change := func(t *testing.T, e env) { e.v.publish(t, map[string]string{"a": fmt.Sprint(e.v.n + 1)}) }
	for name, c := range map[string]struct {
		flags []string // with {} for a directory of the test's own
		then  func(t *testing.T, e env)
	}{
		"a command": {
			flags: []string{"--watch-action", `exec:sh -c "echo $HOLDFAST_GENERATION $HOLDFAST_GENERATION_PID > {}/told.new; mv {}/told.new {}/told"`},
			then: func(t *testing.T, e env) {
				change(t, e)
				s := e.told(status.Completed, 1)
				got, err := os.ReadFile(filepath.Join(e.dir, "told"))
				if want := fmt.Sprintf("1 %d\n", s.Generations[0].PID); err != nil || string(got) != want {
					t.Errorf("the command was run with %q, %v, want %q", got, err, want)
				}
			},
		},
		"a command that fails": {
			flags: []string{"--watch-action", `exec:sh -c "echo no such luck; exit 7"`},
			then: func(t *testing.T, e env) {
				change(t, e)
				s := e.told(status.FailedHandoff, 1)
				if r := s.WatchAction.Last.Reason; !strings.Contains(r, "exit code 7") || !strings.Contains(r, "no such luck") {
					t.Errorf("the reason is %q", r)
				}
				if s.ConfigRejected == "" {
					t.Error("the configuration is not said to be rejected")
				}
			},
		},
		"a command that is not there": {
			flags: []string{"--watch-action", "exec:/not/there"},
			then: func(t *testing.T, e env) {
				change(t, e)
				if r := e.told(status.FailedHandoff, 1).WatchAction.Last.Reason; !strings.Contains(r, "/not/there") {
					t.Errorf("the reason is %q", r)
				}
			},
		},
		"a command that does not end": {
			flags: []string{"--ready-timeout", "2s", "--watch-action", `exec:sh -c "sleep 3600 & wait"`},
			then: func(t *testing.T, e env) {
				change(t, e)
				if r := e.told(status.FailedHandoff, 1).WatchAction.Last.Reason; !strings.Contains(r, "did not end within 2s") {
					t.Errorf("the reason is %q", r)
				}
			},
		},
		"a server that dies of it": {
			flags: []string{"--watch-action", "signal:HUP", "--restart", "always", "--settle", "10s"},
			then: func(t *testing.T, e env) {
				change(t, e)
				if r := e.told(status.FailedHandoff, 1).WatchAction.Last.Reason; !strings.Contains(r, "the live generation exited: killed by SIGHUP") {
					t.Errorf("the reason is %q", r)
				}
				if s := e.WaitLive(2, within); s.Counters.WatchActions[status.FailedHandoff] != 1 || s.ConfigHash != s.ConfigLatest {
					t.Errorf("its successor, which has started from the change, was told once more: %v", s.Counters.WatchActions)
				}
			},
		},
		"a server that hangs after it": {
			flags: []string{"--ready-timeout", "2s", "--watch-action", `exec:sh -c "kill -STOP $HOLDFAST_GENERATION_PID"`},
			then: func(t *testing.T, e env) {
				change(t, e)
				s := e.told(status.FailedHandoff, 1)
				if r := s.WatchAction.Last.Reason; !strings.Contains(r, "not ready within 2s") || s.Live != 1 {
					t.Errorf("generation %d is live, the reason is %q", s.Live, r)
				}
				e.Signal(syscall.SIGHUP) // there is a way out
				e.WaitLive(2, within)
			},
		},
		"a signal meanwhile": {
			flags: []string{"--watch-action", `exec:sh -c "touch {}/begun; until [ -e {}/go ]; do sleep 0.01; done"`},
			then: func(t *testing.T, e env) {
				change(t, e)
				e.Eventually("the command has begun", within, func() bool { _, err := os.Stat(filepath.Join(e.dir, "begun")); return err == nil })
				e.Signal(syscall.SIGHUP)
				s := e.WaitStatus("it is remembered", within, func(s *status.Snapshot) bool { return s.Pending })
				if s.Handoff != nil || s.WatchAction.Now == nil || !strings.Contains(s.Ready.Handoff, "watch action") {
					t.Errorf("meanwhile: handoff %+v, watch action %+v, ready: %q", s.Handoff, s.WatchAction, s.Ready.Handoff)
				}
				if err := os.WriteFile(filepath.Join(e.dir, "go"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
				if s := e.WaitLive(2, within); s.Last.Trigger != "signal" || s.WatchAction.Last == nil {
					t.Errorf("after it: %+v, %+v", s.Last, s.WatchAction)
				}
			},
		},
		"a change during a handoff": {
			flags: []string{"--watch-action", "exec:true", "--check", `sh -c "until [ -e {}/go ]; do sleep 0.01; done"`},
			then: func(t *testing.T, e env) {
				e.Signal(syscall.SIGHUP)
				phaseIs(e.Holdfast, status.PhaseCheck)
				mark := e.Mark()
				change(t, e)
				e.WaitLogAfter(mark, "change remembered", within)
				if err := os.WriteFile(filepath.Join(e.dir, "go"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
				s := e.WaitLive(2, within)
				if s.ConfigHash != s.ConfigLatest || len(s.Counters.WatchActions) != 0 {
					t.Errorf("generation 2, which has started after the change, runs from %s, on disk is %s; watch actions: %v",
						s.ConfigHash, s.ConfigLatest, s.Counters.WatchActions)
				}
			},
		},
		"the end meanwhile": {
			flags: []string{"--watch-action", `exec:sh -c "touch {}/begun; exec sleep 3600"`},
			then: func(t *testing.T, e env) {
				change(t, e)
				e.Eventually("the command has begun", within, func() bool { _, err := os.Stat(filepath.Join(e.dir, "begun")); return err == nil })
				e.Signal(syscall.SIGTERM)
				e.WaitLog("watch action abandoned.*reason=.holdfast is terminating", within)
				if code := e.Wait(within); code != 0 {
					t.Errorf("exit code %d", code)
				}
			},
		},
		"handoff, by its name": {
			flags: []string{"--watch-action", "handoff"},
			then: func(t *testing.T, e env) {
				change(t, e)
				if s := e.WaitLive(2, within); s.WatchAction != nil {
					t.Errorf("a watch action: %+v", s.WatchAction)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := env{v: newVolume(t, map[string]string{"a": "1"}), dir: t.TempDir()}
			for i, flag := range c.flags {
				c.flags[i] = strings.ReplaceAll(flag, "{}", e.dir)
			}
			e.watcher = watch(t, harness.Options{Flags: c.flags}, e.v.dir)
			c.then(t, e)
		})
	}
}
