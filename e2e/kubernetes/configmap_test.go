package kubernetes

import (
	"strings"
	"testing"

	"holdfast/handoff/status"
)

// TestConfigMap applies a changed ConfigMap to each of the overlays, under load. They differ in how holdfast gets into the
// image: by an init container (nginx), COPY --from (node), an image volume (gunicorn).
func TestConfigMap(t *testing.T) {
	for _, c := range []struct {
		overlay, way string
		data         map[string]string
	}{
		{"nginx", "init container", nginxConfig(t, 2)},
		{"node", "COPY --from", map[string]string{"config.json": `{"greeting": "hi", "version": 2}`}},
		{"gunicorn", "image volume, --env-dir", map[string]string{"GREETING": "hi", "APP_VERSION": "2", "WEB_CONCURRENCY": "2"}},
	} {
		t.Run(c.overlay, func(t *testing.T) {
			a := deploy(t, c.overlay, settings{})
			steady, l := a.steady(), a.load()
			a.configure(c.data)
			a.oneHandoff(a.names())
			l.answered(2, 50)
			l.flow(200)
			if r := l.snapshot(); r.ByGeneration[1] == 0 {
				t.Errorf("version 1 has answered nothing: %v", r)
			}
			steady.check()
			hashes := map[string]bool{}
			for _, p := range a.names() {
				hashes[a.status(p).ConfigHash] = true
			}
			if len(hashes) != 1 {
				t.Errorf("the pods run different configurations: %v", hashes)
			}
			l.nothingLost("`kubectl apply` of a changed ConfigMap, 2 pods ("+c.way+")", c.overlay, 2)
		})
	}
}

// TestUnchanged edits what is no content of the ConfigMap, and applies the same one again: no handoff may come of it. That
// the edits have reached the pod is shown by the one that follows and counts.
func TestUnchanged(t *testing.T) {
	a := deploy(t, "nginx", settings{replicas: 1})
	a.must("", "label", "configmap", a.deployment()+"-config", "edited=true")
	a.configure(nginxConfig(t, 1))
	a.configure(nginxConfig(t, 2))
	a.oneHandoff(a.names())
}

// TestReadiness has plain /readyz as the readiness probe, and a server that takes its time to start: with a failureThreshold
// that covers it the pod stays ready, with one that does not it leaves the endpoints until the handoff has its outcome,
// although it serves all the time.
func TestReadiness(t *testing.T) {
	slow := []string{"--", "sh", "-c", `[ "$HOLDFAST_GENERATION" = 1 ] || sleep 12; exec nginx -e stderr -c /etc/app/nginx.conf -g "daemon off;"`}
	for name, c := range map[string]struct {
		probe string
		stays bool
	}{
		"covered":     {`{"httpGet": {"path": "/readyz", "port": "probes"}, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 30}`, true},
		"not covered": {`{"httpGet": {"path": "/readyz", "port": "probes"}, "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 2}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := deploy(t, "nginx", settings{replicas: 1, args: slow, readiness: c.probe, env: map[string]string{"HOLDFAST_STOP_SIGNAL": "QUIT"}})
			p := a.names()[0]
			steady := a.steady()
			if out, err := a.exec(p, "kill", "-HUP", "1"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if !c.stays {
				until(t, "the pod is not ready during the handoff", func() bool { ok, _ := a.pods()[0].ready(); return !ok })
				if s := a.status(p); s.Live != 1 {
					t.Errorf("generation %d is live already: that it is not ready shows nothing", s.Live)
				}
				if out, err := a.exec(p, "holdfast", "probe", "ready", "--exclude", "handoff"); err != nil {
					t.Errorf("it does not even serve: %v: %s", err, out)
				}
			}
			until(t, "the handoff completed", func() bool { return a.handoffs(p, "signal", "completed") == 1 })
			if c.stays {
				steady.check()
				return
			}
			until(t, "the pod is ready again", func() bool { ok, _ := a.pods()[0].ready(); return ok })
		})
	}
}

// TestBroken gives configurations that cannot work, in every way in which they may not: the old generation must go on, the
// status, the log and the metrics must say why, and the repaired one must be taken up.
func TestBroken(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		env          map[string]string
		args         []string
		broken       map[string]string
	}{
		{"check fails", "the check failed", nil, nil, nginxConfig(t, 2, "worker_processes 2;", "worker_processes two;")},
		{"server exits", "exit code 1", map[string]string{"HOLDFAST_CHECK": ""}, nil, nginxConfig(t, 2, "pid /tmp/nginx.pid;", "pid /nowhere/nginx.pid;")},
		{"never ready", "it answered 500", map[string]string{"HOLDFAST_READY_TIMEOUT": "5s"}, nil, nginxConfig(t, 2, `{ return 200 "ok\n"; }`, `{ return 500 "no\n"; }`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := deploy(t, "nginx", settings{replicas: 1, env: c.env, args: c.args})
			steady, l, p := a.steady(), a.load(), a.names()[0]
			a.configure(c.broken)
			until(t, "the handoff has failed", func() bool { return a.handoffs(p, "watch", "failed") == 1 })
			s := a.status(p)
			if s.Live != 1 || s.Last == nil || s.Last.Result != status.FailedHandoff || !strings.Contains(s.Last.Reason, c.reason) {
				t.Errorf("status: generation %d is live, last %+v; want a reason with %q", s.Live, s.Last, c.reason)
			}
			if out, err := a.exec(p, "holdfast", "status"); err != nil || !contains(out, "live: generation 1", "FAILED", "REJECTED") {
				t.Errorf("holdfast status (%v) does not show it:\n%s", err, out)
			} else {
				t.Logf("holdfast status says:\n%s", out)
			}
			for name, want := range map[string]float64{
				"holdfast_last_handoff_successful": 0, "holdfast_config_rejected": 1, "holdfast_config_current": 0, "holdfast_generation": 1,
				`holdfast_handoffs_total{result="failed",trigger="watch"}`: 1,
			} {
				if got := a.metric(p, name); got != want {
					t.Errorf("%s is %v, want %v", name, got, want)
				}
			}
			l.flow(100)
			if r := l.snapshot(); r.ByGeneration[2] != 0 {
				t.Errorf("the broken version has answered: %v", r)
			}
			steady.check()

			a.configure(nginxConfig(t, 3))
			until(t, "the repaired one is live", func() bool { return a.handoffs(p, "watch", "completed") == 1 })
			l.answered(3, 50)
			for name, want := range map[string]float64{
				"holdfast_last_handoff_successful": 1, "holdfast_config_rejected": 0, "holdfast_config_current": 1,
			} {
				if got := a.metric(p, name); got != want {
					t.Errorf("repaired: %s is %v, want %v", name, got, want)
				}
			}
			steady.check()
			l.nothingLost("a broken ConfigMap ("+c.name+"), then the repaired one", "nginx", 1)
		})
	}
}

// TestSubPath mounts one key with subPath, which the kubelet never updates: holdfast has to say so.
func TestSubPath(t *testing.T) {
	a := deploy(t, "nginx", settings{replicas: 1, notReady: true})
	a.must("", "patch", "deployment", a.deployment(), "-p", `{"spec": {"template": {"spec": {"containers": [{"name": "server",
		"env": [{"name": "HOLDFAST_WATCH", "value": "/etc/app/nginx.conf"}], "volumeMounts": [{"mountPath": "/etc/app", "$patch": "delete"},
		{"name": "config", "mountPath": "/etc/app/nginx.conf", "subPath": "nginx.conf"}]}]}}}}`)
	a.must("", "rollout", "status", "deployment/"+a.deployment(), "--timeout="+within.String())
	p := a.names()[0]
	if s := a.status(p); !strings.Contains(strings.Join(s.Warnings, " "), "subPath") {
		t.Errorf("no warning of subPath: %v", s.Warnings)
	}
	if got := a.metric(p, "holdfast_warnings"); got < 1 {
		t.Errorf("holdfast_warnings is %v", got)
	}
}
