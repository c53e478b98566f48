// Package kubernetes tries holdfast on a real cluster, as deploy/ has it run there: the kubelet writes the ConfigMaps, probes
// the pods, sends the signals and restarts the containers; real servers are behind a Service; and a steady load from inside
// the cluster says what has become of every request.
//
//	make e2e-images                              # then load dist/e2e/*.tar into the cluster, or push them
//	make e2e-kubernetes KUBECONFIG=… IMAGE=localhost/holdfast:e2e
//
// Everything happens in namespaces of the tests' own, under the restricted Pod Security Standard. Without
// HOLDFAST_E2E_IMAGE, which the Makefile sets, nothing is tried.
package kubernetes

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// within bounds every wait. A stock kubelet takes up to 90 seconds to write a changed ConfigMap into a pod.
const within = 4 * time.Minute

// image is holdfast's; the servers' have its name and -nginx, -node or -gunicorn behind it.
var image = os.Getenv("HOLDFAST_E2E_IMAGE")

func TestMain(m *testing.M) {
	if image == "" {
		fmt.Println("not tried: HOLDFAST_E2E_IMAGE names no image; see make e2e-kubernetes")
		return
	}
	code := m.Run()
	if file := os.Getenv("HOLDFAST_E2E_RESULTS"); file != "" && code == 0 {
		if err := writeResults(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// until polls for ok, which costs a process each time.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(300 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}
