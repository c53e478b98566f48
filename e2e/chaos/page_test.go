package chaos

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"
)

// recorded is the last whole run of each kind: what docs/reliability.json holds.
type recorded struct {
	Chaos *counts `json:"chaos,omitempty"`
	Soak  *soaked `json:"soak,omitempty"`
}

//go:embed testdata/reliability.tmpl
var page string

const committed = "../../docs/reliability"

// keep changes what is recorded, and writes the page anew.
func keep(t *testing.T, change func(*recorded)) {
	t.Helper()
	if *record == "" {
		return
	}
	r, err := readRecorded(*record)
	if err != nil {
		t.Fatal(err)
	}
	change(&r)
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	text, err := r.page()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{*record: append(b, '\n'), strings.TrimSuffix(*record, ".json") + ".md": text} {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func readRecorded(name string) (r recorded, err error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read what is recorded: %w", err)
	}
	return r, nil
}

// page says it in words.
func (r recorded) page() ([]byte, error) {
	functions := template.FuncMap{
		"round": func(d time.Duration) string { return d.Round(time.Millisecond).String() },
		"kinds": kinds,
		"lanes": func(all []laneResources) []laneResources {
			all = slices.Clone(all)
			slices.SortFunc(all, func(a, b laneResources) int { return strings.Compare(a.Server, b.Server) })
			return all
		},
		"excuses": func() []string { return []string{excuseKilled, excuseDrained, excuseStarved} },
		"first":   func(all []sample) sample { return all[0] },
		"last":    func(all []sample) sample { return all[len(all)-1] },
		"middle":  func(all []sample) sample { return all[len(all)/2] },
	}
	t, err := template.New("reliability").Funcs(functions).Parse(page)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, r); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// TestPage: docs/reliability.md is what the template makes of the figures in docs/reliability.json. After a change of the
// template: go test ./e2e/chaos -run TestPage -args -record $PWD/docs/reliability.json
func TestPage(t *testing.T) {
	keep(t, func(*recorded) {})
	r, err := readRecorded(committed + ".json")
	if err != nil {
		t.Fatal(err)
	}
	want, err := r.page()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(committed + ".md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/reliability.md is not what its template and its figures make")
	}
}
