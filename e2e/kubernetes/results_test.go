package kubernetes

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"

	"holdfast/e2e/load"
)

// row is one line of the table in docs/kubernetes.md.
type row struct {
	what, server string
	handoffs     int
	load         load.Result
}

var results struct {
	sync.Mutex
	rows []row
}

func record(r row) {
	results.Lock()
	defer results.Unlock()
	results.rows = append(results.rows, r)
}

// What is between these lines of the file is written by the tests.
const (
	begin = "<!-- Written by make e2e-kubernetes; do not edit from here -->"
	end   = "<!-- to here. -->"
)

func writeResults(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("write results: %s has no lines %q and %q", file, begin, end)
	}
	return os.WriteFile(file, []byte(before+begin+"\n"+table()+end+after), 0o644)
}

func table() string {
	var b strings.Builder
	format := `jsonpath={range .items[0].status.nodeInfo}kubelet {.kubeletVersion}, {.containerRuntimeVersion}, Linux {.kernelVersion}, {.architecture}{end}`
	node, _ := exec.Command("kubectl", "get", "nodes", "-o", format).Output()
	fmt.Fprintf(&b, "\nMeasured on: %s.\n\n", node)
	b.WriteString("| what | server | handoffs | requests | lost | repeated on a closed kept connection | p50 | p99 | max |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, r := range results.rows {
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %d | %.1f ms | %.1f ms | %.0f ms |\n", r.what, r.server, r.handoffs, r.load.Requests, r.load.Lost(), r.load.Retried,
			float64(r.load.P50.Microseconds())/1000, float64(r.load.P99.Microseconds())/1000, float64(r.load.Max.Microseconds())/1000)
	}
	b.WriteString("\n")
	return b.String()
}
