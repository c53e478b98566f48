package kubernetes

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestFirstStart keeps the server from starting until the kubelet has found the pod not ready: it must not be ready before
// its first generation is proven, whatever the readiness probe leaves out.
func TestFirstStart(t *testing.T) {
	a := deploy(t, "nginx", settings{replicas: 1, notReady: true, args: []string{"--", "sh", "-c",
		`until [ -e /tmp/go ]; do sleep 0.2; done; exec nginx -e stderr -c /etc/app/nginx.conf -g "daemon off;"`}})
	until(t, "the kubelet's readiness probe has failed", func() bool {
		return strings.Contains(a.must("", "get", "events", "--field-selector", "reason=Unhealthy", "-o", "jsonpath={.items[*].message}"), "statuscode: 503")
	})
	p := a.pods()[0]
	if ok, _ := p.ready(); ok || p.restarts() > 0 {
		t.Errorf("ready %t, %d restarts, and no server runs", ok, p.restarts())
	}
	name := p.Metadata.Name
	if out, err := a.exec(name, "holdfast", "probe", "ready", "--exclude", "handoff"); err == nil {
		t.Errorf("holdfast probe ready says yes: %s", out)
	}
	if out, err := a.exec(name, "holdfast", "probe", "live"); err != nil {
		t.Errorf("holdfast probe live: %v: %s", err, out)
	}
	if endpoints := a.endpoints(); endpoints != "" {
		t.Errorf("it is in the endpoints: %s", endpoints)
	}
	if out, err := a.exec(name, "touch", "/tmp/go"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	until(t, "the pod is ready", func() bool { ok, _ := a.pods()[0].ready(); return ok })
	until(t, "it is in the endpoints", func() bool { return a.endpoints() == a.pods()[0].Status.PodIP })
}

// endpoints are the addresses that the Service leads to.
func (a *app) endpoints() string {
	a.t.Helper()
	return strings.TrimSpace(a.must("", "get", "endpointslices", "-l", "kubernetes.io/service-name="+a.deployment(),
		"-o", `jsonpath={range .items[*].endpoints[?(@.conditions.ready==true)]}{.addresses[0]} {end}`))
}

// TestDelete deletes one of two pods under load, and then replaces all of them by a rollout: --shutdown-delay gives the
// endpoints the time to disappear, and terminationGracePeriodSeconds is long enough for both.
func TestDelete(t *testing.T) {
	a := deploy(t, "nginx", settings{})
	l := a.load()
	p := a.names()[0]
	logs := a.follow(p)
	a.must("", "delete", "pod", p)
	logs.must("serving on for the shutdown delay", "exiting")
	a.must("", "rollout", "status", "deployment/"+a.deployment(), "--timeout="+within.String())
	l.flow(100)
	l.nothingLost("`kubectl delete pod`, one of 2, `--shutdown-delay 10s`", "nginx", 0)

	l = a.load()
	old := a.names()
	a.must("", "rollout", "restart", "deployment/"+a.deployment())
	a.must("", "rollout", "status", "deployment/"+a.deployment(), "--timeout="+within.String())
	for _, p := range old { // they serve on for the shutdown delay
		a.must("", "wait", "--for=delete", "pod/"+p, "--timeout="+within.String())
	}
	l.flow(100)
	l.nothingLost("`kubectl rollout restart`, 2 pods", "nginx", 0)
}

// log is what a pod writes until its end.
type log struct {
	a    *app
	done chan string
}

func (a *app) follow(pod string) log {
	l := log{a: a, done: make(chan string, 1)}
	go func() {
		out, err := a.kubectl("", "logs", "-f", pod, "-c", "server")
		l.done <- fmt.Sprintf("%s%v", out, err)
	}()
	return l
}

func (l log) must(parts ...string) {
	l.a.t.Helper()
	select {
	case text := <-l.done:
		if !contains(text, parts...) {
			l.a.t.Errorf("the log has not all of %q:\n%s", parts, text)
		}
	case <-time.After(within):
		l.a.t.Errorf("the log does not end")
	}
}

// TestLiveDies kills the live generation: by default the container ends with it and the kubelet restarts it; with --restart
// on-failure holdfast starts the next one, and the kubelet notices nothing.
func TestLiveDies(t *testing.T) {
	t.Run("never", func(t *testing.T) {
		a := deploy(t, "nginx", settings{replicas: 1})
		a.killLive()
		until(t, "the kubelet has restarted the container", func() bool { return a.pods()[0].restarts() == 1 })
		last := a.pods()[0].Status.ContainerStatuses[0].LastState.Terminated
		if last == nil || last.ExitCode != 137 || !strings.Contains(last.Message, "generation 1") {
			t.Errorf("the kubelet says %+v, want exit code 137 and a message that names generation 1", last)
		}
		until(t, "the pod is ready again", func() bool { ok, _ := a.pods()[0].ready(); return ok })
	})
	t.Run("on-failure", func(t *testing.T) {
		a := deploy(t, "nginx", settings{replicas: 1, env: map[string]string{"HOLDFAST_RESTART": "on-failure"}})
		p := a.names()[0]
		a.killLive()
		until(t, "the next generation is live", func() bool { s := a.status(p); return s.Live == 2 && s.Ready.Live == "" })
		if got := a.metric(p, "holdfast_restarts_total"); got != 1 {
			t.Errorf("holdfast_restarts_total is %v", got)
		}
		until(t, "the pod is ready", func() bool { ok, _ := a.pods()[0].ready(); return ok })
		if n := a.pods()[0].restarts(); n != 0 {
			t.Errorf("the kubelet has restarted the container %d times", n)
		}
	})
}

func (a *app) killLive() {
	a.t.Helper()
	p := a.names()[0]
	for _, g := range a.status(p).Generations {
		if g.Number == 1 {
			// The container may end with it at once, and kill along with the container: an error says nothing.
			_, _ = a.exec(p, "kill", "-KILL", strconv.Itoa(g.PID))
			return
		}
	}
	a.t.Fatal("no generation 1")
}

// TestProbes has the kubelet probe by exec and by tcpSocket, in a container that holds nothing but holdfast and a volume.
func TestProbes(t *testing.T) {
	for name, probe := range map[string]string{
		"exec":                 `{"exec": {"command": ["holdfast", "probe", "ready"]}, "periodSeconds": 2, "timeoutSeconds": 10}`,
		"tcpSocket":            `{"tcpSocket": {"port": "http"}, "periodSeconds": 2, "timeoutSeconds": 5}`,
		"httpGet of one check": `{"httpGet": {"path": "/readyz/live", "port": "probes"}, "periodSeconds": 2, "timeoutSeconds": 5}`,
	} {
		t.Run(name, func(t *testing.T) {
			a := deploy(t, "nginx", settings{replicas: 1, readiness: probe}) // it waits until the pod is ready
			var d struct {
				Spec struct {
					Template struct {
						Spec struct {
							Containers []struct{ ReadinessProbe json.RawMessage }
						}
					}
				}
			}
			if err := json.Unmarshal([]byte(a.must("", "get", "deployment", a.deployment(), "-o", "json")), &d); err != nil {
				t.Fatal(err)
			}
			if text := string(d.Spec.Template.Spec.Containers[0].ReadinessProbe); name != "httpGet of one check" && strings.Contains(text, "httpGet") {
				t.Errorf("the probe is another one: %s", text)
			}
		})
	}
}
