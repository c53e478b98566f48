package kubernetes

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/e2e/load"
)

// traffic is a steady load on the app's Service.
type traffic struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan struct{}

	mu   sync.Mutex
	last load.Result
}

const loaderPod = `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "loader"}, "spec": {
	"automountServiceAccountToken": false, "enableServiceLinks": false, "terminationGracePeriodSeconds": 0,
	"securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
	"containers": [{"name": "loader", "image": "%s", "command": ["sleep", "3600"],
		"securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}}}]}}`

// load starts one, in a pod of its own, and returns when it flows. A Service that is new refuses connections until the node
// has its rules; a load that met that is begun anew.
func (a *app) load() *traffic {
	a.t.Helper()
	if _, err := a.kubectl("", "get", "pod", "loader"); err != nil {
		a.must(fmt.Sprintf(loaderPod, image+"-nginx"), "apply", "-f", "-")
		a.must("", "wait", "--for=condition=Ready", "pod/loader", "--timeout="+within.String())
	}
	address := a.must("", "get", "service", a.deployment(), "-o", "jsonpath={.spec.clusterIP}") + ":80"
	for end := time.Now().Add(within); ; {
		l := a.startLoad(address)
		l.flow(50)
		if l.snapshot().Lost() == 0 {
			return l
		}
		if r := l.stop(); time.Now().After(end) {
			a.t.Fatalf("the Service is not there: %v", r)
		}
	}
}

func (a *app) startLoad(address string) *traffic {
	a.t.Helper()
	l := &traffic{t: a.t, done: make(chan struct{})}
	l.cmd = exec.Command("kubectl", "-n", a.name, "exec", "-i", "loader", "--", "/loader", address)
	stdin, err := l.cmd.StdinPipe()
	if err != nil {
		a.t.Fatal(err)
	}
	stdout, err := l.cmd.StdoutPipe()
	if err != nil {
		a.t.Fatal(err)
	}
	l.stdin = stdin
	if err := l.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	go l.read(stdout)
	a.t.Cleanup(func() { l.end() })
	return l
}

func (l *traffic) read(out io.Reader) {
	defer close(l.done)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r load.Result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			l.t.Errorf("the load said %.200q: %v", lines.Text(), err)
			return
		}
		l.mu.Lock()
		l.last = r
		l.mu.Unlock()
	}
}

func (l *traffic) snapshot() load.Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// flow waits for n more answers.
func (l *traffic) flow(n uint64) {
	l.t.Helper()
	from := l.snapshot().Requests
	until(l.t, "the load flows", func() bool { return l.snapshot().Requests >= from+n })
}

// answered waits until version n has given so many answers.
func (l *traffic) answered(version int, n uint64) {
	l.t.Helper()
	until(l.t, fmt.Sprintf("version %d answers", version), func() bool { return l.snapshot().ByGeneration[version] >= n })
}

// end is stop for the end of a test that has failed.
func (l *traffic) end() {
	l.stdin.Close()
	<-l.done
	_ = l.cmd.Wait() // its output is read to the end, or the test has failed
}

// stop ends the load and returns what has become of it.
func (l *traffic) stop() load.Result {
	l.end()
	return l.snapshot()
}

// nothingLost ends the load, records it, and fails the test for each request that was not answered.
func (l *traffic) nothingLost(what, server string, handoffs int) {
	l.t.Helper()
	r := l.stop()
	l.t.Logf("%s", strings.TrimSpace(r.String()))
	if r.Lost() != 0 {
		l.t.Errorf("%d requests were lost", r.Lost())
	}
	if r.Requests < 200 {
		l.t.Errorf("only %d requests: that shows nothing", r.Requests)
	}
	record(row{what: what, server: server, handoffs: handoffs, load: r})
}
