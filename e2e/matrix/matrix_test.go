package main

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/e2e/matrix/measure"
	"holdfast/e2e/matrix/table"
)

func good(name string) result {
	return result{Name: name, Version: "1", Machine: "m", At: time.Unix(0, 0), N: 1, Handoffs: measure.Figures{
		New: measure.Tally{Requests: 1234}, Kept: measure.Tally{Requests: 100}, Took: []time.Duration{time.Second},
	}, Restarts: measure.Figures{Took: []time.Duration{time.Second}}}
}

// TestPartialRun: a run of one row leaves the figures of the others as they are, and says that they come from another.
func TestPartialRun(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := store(map[string]result{"nginx": good("nginx"), "haproxy": good("haproxy"), "caddy": good("caddy"), "no such row": good("no such row")}); err != nil {
		t.Fatal(err)
	}
	results, err := stored()
	if err != nil || len(results) != 3 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	again := good("haproxy")
	again.Machine, again.Handoffs.New.Requests = "another", 4321
	results["haproxy"] = again
	if err := store(results); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| nginx | 1 | 1234 |", "| haproxy | 1 | 4321 |", "haproxy: measured with another on 1970-01-01"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the document lacks %q:\n%s", want, text)
		}
	}
	if err := os.WriteFile(figures, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := stored(); err == nil {
		t.Error("broken figures were read as none")
	}
}

// TestBroken: which figures break a row's promise.
func TestBroken(t *testing.T) {
	fresh := func(tally measure.Tally) result {
		r := good("x")
		tally.Requests = 1234
		r.Handoffs.New = tally
		return r
	}
	kept := func(tally measure.Tally) result {
		r := good("x")
		r.Handoffs.Kept = tally
		return r
	}
	few, misled, troubled := good("x"), good("x"), good("x")
	few.Handoffs.New.Requests = 99
	misled.Handoffs.Misled = []string{"generation 1"}
	troubled.Trouble = "it does not start"
	for name, c := range map[string]struct {
		row    table.Row
		r      result
		broken bool
	}{
		"good":            {table.Row{}, good("x"), false},
		"few":             {table.Row{}, few, true},
		"misled":          {table.Row{}, misled, true},
		"not measured":    {table.Row{}, troubled, true},
		"new":             {table.Row{}, fresh(measure.Tally{Refused: 1}), true},
		"new, abrupt":     {table.Row{Abrupt: true}, fresh(measure.Tally{Reset: 1}), true},
		"new, sequential": {table.Row{Sequential: true}, fresh(measure.Tally{Reset: 1}), true},
		"new, both":       {table.Row{Sequential: true, Abrupt: true}, fresh(measure.Tally{Reset: 1}), false},
		"new, refused":    {table.Row{Sequential: true, Abrupt: true}, fresh(measure.Tally{Refused: 1}), true},
		"kept":            {table.Row{}, kept(measure.Tally{Failed: 1}), true},
		"kept, abrupt":    {table.Row{Abrupt: true}, kept(measure.Tally{Failed: 1}), false},
		"excused":         {table.Row{}, fresh(measure.Tally{Failed: 2, Excused: 2}), false},
		"some excused":    {table.Row{}, fresh(measure.Tally{Failed: 2, Excused: 1}), true},
	} {
		if why := c.r.broken(c.row); (why != "") != c.broken {
			t.Errorf("%s: broken by %q, want %t", name, why, c.broken)
		}
	}
}

// TestRun: a row's complaint, panic or end by Fatal is told, and its cleanups are run.
func TestRun(t *testing.T) {
	for name, c := range map[string]struct {
		f    func(testing.TB)
		want string
	}{
		"good":  {func(testing.TB) {}, ""},
		"log":   {func(t testing.TB) { t.Log("nothing bad") }, ""},
		"fatal": {func(t testing.TB) { t.Fatalf("no %s", "server"); t.Error("not reached") }, "no server"},
		"panic": {func(testing.TB) { panic(errors.New("oh")) }, "panic: oh"},
	} {
		order := ""
		got := run(t.Context(), func(t testing.TB) {
			t.Cleanup(func() { order += "1" })
			t.Cleanup(func() { order += "2" })
			c.f(t)
		})
		if got != c.want || order != "21" {
			t.Errorf("%s: %q, cleanups %s", name, got, order)
		}
	}
}

// TestRows: names are all different, and what a row needs is known to the table of what it installs.
func TestRows(t *testing.T) {
	script, err := os.ReadFile("../deps.sh")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range table.All() {
		if seen[r.Name] {
			t.Errorf("%s is there twice", r.Name)
		}
		seen[r.Name] = true
		for _, need := range r.Needs {
			if !strings.Contains(string(script), "\n"+need+" ") {
				t.Errorf("%s needs %s, which e2e/deps.sh does not know", r.Name, need)
			}
		}
		for _, text := range []string{r.Command, r.Flags} {
			if _, err := (table.Row{Command: text}).Argv(table.Place{Port: "1"}); err != nil {
				t.Errorf("%s: %q: %v", r.Name, text, err)
			}
		}
	}
}
