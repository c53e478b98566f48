package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/e2e/matrix/measure"
	"holdfast/e2e/matrix/table"
)

// The document, and the figures from which it is made: a run of some rows must leave the others as they were measured.
const (
	document = "docs/servers.md"
	figures  = "docs/servers.json"
)

// result is one row's run.
type result struct {
	Name     string          `json:"name"`
	Version  string          `json:"version"`
	At       time.Time       `json:"at"`
	Machine  string          `json:"machine"`
	N        int             `json:"n"`
	Handoffs measure.Figures `json:"handoffs"`
	Restarts measure.Figures `json:"restarts"`
	Trouble  string          `json:"trouble,omitempty"` // why the row could not be measured
}

// broken says how r does not keep what is promised of row; "" when it does.
func (r result) broken(row table.Row) string {
	h := r.Handoffs
	switch {
	case r.Trouble != "":
		return r.Trouble
	case h.New.Requests < 100:
		return fmt.Sprintf("only %d requests: that shows nothing", h.New.Requests)
	case unexcused(h.New, row) > 0:
		return fmt.Sprintf("%d new connections were lost: %s", unexcused(h.New, row), failures(h))
	case unexcused(h.Kept, row) > 0 && !row.Abrupt:
		return fmt.Sprintf("%d requests on kept connections were lost: %s", unexcused(h.Kept, row), failures(h))
	case len(h.Misled) > 0:
		return "led to the wrong generation: " + strings.Join(h.Misled, "; ")
	}
	return ""
}

// unexcused counts the requests that were lost to something else than what the row says of itself.
func unexcused(t measure.Tally, row table.Row) int {
	n := t.Lost() - t.Excused
	if row.Abrupt && row.Sequential {
		n -= t.Reset
	}
	return n
}

func failures(f measure.Figures) string {
	var b strings.Builder
	for _, r := range f.Failures {
		fmt.Fprintf(&b, "\n    %s %s in %s after %v (reused %t, retried %t): %s", r.Kind, r.Outcome, r.Phase,
			r.Answered.Sub(r.Connect).Round(time.Microsecond), r.Reused, r.Retried, r.Error)
	}
	return b.String()
}

// stored reads the results that are there already.
func stored() (map[string]result, error) {
	results := map[string]result{}
	text, err := os.ReadFile(figures)
	if errors.Is(err, fs.ErrNotExist) {
		return results, nil
	}
	if err != nil {
		return nil, err
	}
	var list []result
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("read %s: %w", figures, err)
	}
	for _, r := range list {
		results[r.Name] = r
	}
	return results, nil
}

// store writes the results of the rows that there are, and the document.
func store(results map[string]result) error {
	list := []result{}
	for _, row := range table.All() {
		if r, ok := results[row.Name]; ok {
			list = append(list, r)
		}
	}
	text, err := json.MarshalIndent(list, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(document), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(figures, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(document, []byte(render(results)), 0o644)
}

// version is the server's, as whoever installed it says.
func version(row table.Row) string {
	kind, rest, _ := strings.Cut(row.Version, " ")
	switch kind {
	case "go":
		return strings.TrimPrefix(runtime.Version(), "go")
	case "module": // of the module in e2e/servers that has the row's name without the dash
		dir := filepath.Join("e2e", "servers", strings.ReplaceAll(row.Name, "-", ""))
		return output("go", "-C", dir, "list", "-m", "-f", "{{.Version}}", rest)
	case "npm":
		root := output("npm", "root", "--global")
		var p struct{ Version string }
		if text, err := os.ReadFile(filepath.Join(root, rest, "package.json")); err == nil {
			_ = json.Unmarshal(text, &p)
		}
		return p.Version
	}
	return output("dpkg-query", "-W", "-f", "${Version}", row.Version)
}

// machine says on what was measured: holdfast's version, the kernel and the cores.
func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	return fmt.Sprintf("holdfast %s, Linux %s, %d cores, %s", output("git", "describe", "--tags", "--always", "--dirty"),
		unix.ByteSliceToString(u.Release[:]), runtime.NumCPU(), runtime.GOARCH)
}

func output(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
