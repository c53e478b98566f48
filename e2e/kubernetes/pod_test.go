package kubernetes

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"holdfast/handoff/status"
)

// pod is what the API server knows of one.
type pod struct {
	Metadata struct {
		Name              string
		DeletionTimestamp string
	}
	Status struct {
		PodIP      string
		Conditions []struct {
			Type, Status       string
			LastTransitionTime time.Time
		}
		ContainerStatuses []struct {
			RestartCount int
			State        struct {
				Running *struct{ StartedAt time.Time }
			}
			LastState struct {
				Terminated *struct {
					ExitCode int
					Message  string
				}
			}
		}
	}
}

// ready is whether a pod is, and since when it is so.
func (p pod) ready() (bool, time.Time) {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True", c.LastTransitionTime
		}
	}
	return false, time.Time{}
}

func (p pod) restarts() int {
	n := 0
	for _, c := range p.Status.ContainerStatuses {
		n += c.RestartCount
	}
	return n
}

// pods lists those that are not being deleted.
func (a *app) pods() []pod {
	a.t.Helper()
	var list struct{ Items []pod }
	if err := json.Unmarshal([]byte(a.must("", "get", "pods", "-l", "app.kubernetes.io/name="+a.overlay, "-o", "json")), &list); err != nil {
		a.t.Fatal(err)
	}
	var all []pod
	for _, p := range list.Items {
		if p.Metadata.DeletionTimestamp == "" {
			all = append(all, p)
		}
	}
	return all
}

// names are those of the pods.
func (a *app) names() []string {
	a.t.Helper()
	var all []string
	for _, p := range a.pods() {
		all = append(all, p.Metadata.Name)
	}
	return all
}

// exec is kubectl exec in a pod's server container.
func (a *app) exec(pod string, argv ...string) (string, error) {
	return a.kubectl("", append([]string{"exec", pod, "-c", "server", "--"}, argv...)...)
}

// status is what holdfast says of itself in a pod.
func (a *app) status(pod string) status.Document {
	a.t.Helper()
	document := status.Document{Snapshot: &status.Snapshot{}}
	out, err := a.exec(pod, a.binary, "status", "-o", "json")
	if err != nil {
		a.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), &document); err != nil {
		a.t.Fatalf("status: %v: %s", err, out)
	}
	return document
}

// handoffs counts a pod's that have ended.
func (a *app) handoffs(pod, trigger, result string) uint64 {
	a.t.Helper()
	return a.status(pod).Counters.Handoffs[status.HandoffKey{Trigger: trigger, Result: result}]
}

// metric reads one of a pod's metrics, through the API server.
func (a *app) metric(pod, name string) float64 {
	a.t.Helper()
	text := a.must("", "get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:9902/proxy/metrics", a.name, pod))
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(text)
	if found == nil {
		a.t.Fatalf("no metric %s in\n%s", name, text)
	}
	value, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		a.t.Fatal(err)
	}
	return value
}

// steady remembers that pods are ready, and tells later whether they have been all the time.
type steady struct {
	a    *app
	from map[string]pod
}

func (a *app) steady() steady {
	a.t.Helper()
	s := steady{a: a, from: map[string]pod{}}
	for _, p := range a.pods() {
		if ok, _ := p.ready(); !ok {
			a.t.Fatalf("%s is not ready", p.Metadata.Name)
		}
		s.from[p.Metadata.Name] = p
	}
	return s
}

// check is that the same pods are there, ready without a break, with no container restarted.
func (s steady) check() {
	s.a.t.Helper()
	now := s.a.pods()
	if len(now) != len(s.from) {
		s.a.t.Errorf("%d pods, were %d", len(now), len(s.from))
	}
	for _, p := range now {
		before, ok := s.from[p.Metadata.Name]
		if !ok {
			s.a.t.Errorf("pod %s is new", p.Metadata.Name)
			continue
		}
		_, since := before.ready()
		if ok, at := p.ready(); !ok || !at.Equal(since) {
			s.a.t.Errorf("%s: ready %t since %v, was since %v", p.Metadata.Name, ok, at, since)
		}
		if p.restarts() != before.restarts() {
			s.a.t.Errorf("%s: a container was restarted", p.Metadata.Name)
		}
	}
}

// each waits until ok holds for every pod of a list.
func (a *app) each(what string, pods []string, ok func(pod string) bool) {
	a.t.Helper()
	for _, p := range pods {
		until(a.t, p+": "+what, func() bool { return ok(p) })
	}
}

// oneHandoff waits until every pod has had its first by a watched path, and fails if one has had another besides.
func (a *app) oneHandoff(pods []string) {
	a.t.Helper()
	a.each("a handoff by the ConfigMap", pods, func(p string) bool { return a.handoffs(p, "watch", "completed") > 0 })
	for _, p := range pods {
		s := a.status(p)
		if n := s.Counters.Handoffs[status.HandoffKey{Trigger: "watch", Result: status.Completed}]; n != 1 || s.Live != 2 {
			a.t.Errorf("%s: %d handoffs, generation %d is live; want exactly one", p, n, s.Live)
		}
	}
}

func contains(text string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}
