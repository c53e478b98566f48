package kubernetes

import (
	"strings"
	"testing"
)

// TestHUP is kill -HUP 1 through kubectl exec, 20 times under load.
func TestHUP(t *testing.T) {
	const times = 20
	a := deploy(t, "nginx", settings{replicas: 1})
	steady, l, p := a.steady(), a.load(), a.names()[0]
	for n := uint64(1); n <= times; n++ {
		if out, err := a.exec(p, "kill", "-HUP", "1"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		until(t, "the handoff completed", func() bool { return a.handoffs(p, "signal", "completed") == n })
		l.flow(20)
	}
	if s := a.status(p); s.Live != times+1 {
		t.Errorf("generation %d is live, want %d", s.Live, times+1)
	}
	steady.check()
	l.nothingLost("`kubectl exec POD -- kill -HUP 1`", "nginx", times)
}

// TestReload is the same with holdfast's own command, which needs nothing else in the image and waits for the outcome.
func TestReload(t *testing.T) {
	const times = 5
	a := deploy(t, "node", settings{replicas: 1})
	steady, l, p := a.steady(), a.load(), a.names()[0]
	for range times {
		if out, err := a.exec(p, "holdfast", "reload", "--wait"); err != nil || !strings.Contains(out, "is live") {
			t.Fatalf("%v: %s", err, out)
		}
		l.flow(20)
	}
	steady.check()
	l.nothingLost("`kubectl exec POD -- holdfast reload --wait`", "node", times)
}

// TestAnnotate asks for a handoff by an annotation of the pod, without exec; and an annotation that is not watched makes
// the kubelet write a changed ConfigMap at once.
func TestAnnotate(t *testing.T) {
	a := deploy(t, "nginx", settings{replicas: 1, components: []string{"reload-by-annotation"}})
	steady, l, p := a.steady(), a.load(), a.names()[0]
	for n, value := range []string{"one", "two"} {
		a.must("", "annotate", "pod", p, "holdfast/reload="+value, "--overwrite")
		until(t, "the handoff completed", func() bool { return a.handoffs(p, "watch", "completed") == uint64(n)+1 })
	}
	a.must("", "annotate", "pod", p, "holdfast/reload=two", "--overwrite") // as it is already
	a.configure(nginxConfig(t, 2))
	a.must("", "annotate", "pod", p, "touched=now", "--overwrite")
	l.answered(2, 50)
	until(t, "the handoff completed", func() bool { return a.handoffs(p, "watch", "completed") >= 3 })
	if live := a.status(p).Live; live != 4 {
		t.Errorf("generation %d is live, want 4: each change is one handoff", live)
	}
	steady.check()
	l.nothingLost("`kubectl annotate pod POD holdfast/reload=…`", "nginx", 3)
}
