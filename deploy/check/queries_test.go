package check

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
)

// asked is one query of the dashboard or of an alert.
type asked struct {
	where, expression string
	labels            []string // that its legend or text shows
	alert             bool     // it gives nothing as long as all is well
}

// TestQueries asks everything that the dashboard and the alerts ask, of a real Prometheus that scrapes real holdfasts: one
// that has had a handoff, and one whose configuration was rejected.
func TestQueries(t *testing.T) {
	s := newServer(t, map[string]string{"web-0": handedOver(t), "web-1": rejected(t), "web-2": acted(t)})
	all := append(dashboard(t), alerts(t)...)
	if len(all) < 30 {
		t.Fatalf("only %d queries were found", len(all))
	}
	for _, a := range all {
		for _, selector := range selectors(t, a) {
			series := s.answers(t, selector.String())
			if len(series) == 0 {
				t.Errorf("%s: nothing answers %s", a.where, selector)
			}
			for _, name := range grouping(t, a) {
				if !labelled(series, name) {
					t.Errorf("%s: %s has no label %s", a.where, selector, name)
				}
			}
		}
		if a.alert {
			continue
		}
		series := s.answers(t, a.expression)
		if len(series) == 0 {
			t.Errorf("%s: nothing answers %s", a.where, a.expression)
		}
		for _, name := range a.labels {
			if !labelled(series, name) {
				t.Errorf("%s: what %s gives has no label %s", a.where, a.expression, name)
			}
		}
	}
}

// TestQueriesCanFail shows that a metric or a label that holdfast does not have is found.
func TestQueriesCanFail(t *testing.T) {
	s := newServer(t, map[string]string{"web-0": handedOver(t)})
	s.answers(t, "holdfast_generation")
	for _, expression := range []string{"holdfast_generatio", `holdfast_generations{state="gone"}`, `holdfast_generation{job="api"}`} {
		if series, err := s.query(expression); err != nil || len(series) > 0 {
			t.Errorf("%s: %v, %v", expression, series, err)
		}
	}
	series, err := s.query("holdfast_generation")
	if err != nil || labelled(series, "namespac") || !labelled(series, "namespace") {
		t.Errorf("%v, %v", series, err)
	}
}

// handedOver returns the probe address of a holdfast that has had a handoff.
func handedOver(t *testing.T) string {
	t.Helper()
	config := filepath.Join(t.TempDir(), "config")
	write(t, config, "one")
	probes := launch(t, nil, "--watch", config, "--watch-debounce", "1ms")
	write(t, config, "two")
	until(t, "a handoff has completed", func() bool {
		return strings.Contains(fetch(probes+"/metrics"), `holdfast_handoffs_total{result="completed",trigger="watch"} 1`)
	})
	return strings.TrimPrefix(probes, "http://")
}

// rejected returns that of one that was given a configuration whose check fails.
func rejected(t *testing.T) string {
	t.Helper()
	config := filepath.Join(t.TempDir(), "config")
	write(t, config, "good")
	probes := launch(t, nil, "--watch", config, "--watch-debounce", "1ms", "--check", "grep -q good "+config)
	write(t, config, "bad")
	until(t, "the configuration was rejected", func() bool {
		return strings.Contains(fetch(probes+"/metrics"), "\nholdfast_config_rejected 1\n")
	})
	return strings.TrimPrefix(probes, "http://")
}

// acted returns that of one whose server is told of a new configuration by a signal.
func acted(t *testing.T) string {
	t.Helper()
	config := filepath.Join(t.TempDir(), "config")
	write(t, config, "one")
	probes := launch(t, nil, "--watch", config, "--watch-debounce", "1ms", "--watch-action", "exec:true")
	write(t, config, "two")
	until(t, "the action has been taken", func() bool {
		return strings.Contains(fetch(probes+"/metrics"), `holdfast_watch_actions_total{result="completed"} 1`)
	})
	return strings.TrimPrefix(probes, "http://")
}

// launch runs a holdfast until the test ends, and returns where it answers probes, once it is ready.
func launch(t *testing.T, env []string, flags ...string) string {
	t.Helper()
	address, probes := fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	argv := append([]string{holdfast(), "--probe-addr", probes, "--listen", address, "--settle", "1ms"}, flags...)
	start(t, env, append(argv, "--", filepath.Join(binaries, "naughty"))...)
	until(t, "holdfast is ready", func() bool { return fetch("http://"+probes+"/readyz") != "" })
	return "http://" + probes
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// alerts returns the queries of the alerts; what their texts show are their labels.
func alerts(t *testing.T) []asked {
	t.Helper()
	var all []asked
	for _, r := range rules(t) {
		a := asked{where: "alert " + r.Alert, expression: r.Expr.String(), alert: true}
		for _, text := range r.Annotations {
			a.labels = append(a.labels, matches(`\$labels\.(\w+)`, text)...)
		}
		if aggregated := grouping(t, a); len(aggregated) > 0 {
			for _, name := range a.labels {
				if !slices.Contains(aggregated, name) {
					t.Errorf("%s: its text shows the label %s, which is aggregated away", a.where, name)
				}
			}
		}
		all = append(all, a)
	}
	return all
}

// dashboard returns the queries of the dashboard, with its variables as they are when everything is chosen.
func dashboard(t *testing.T) []asked {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(monitor, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	type target struct{ Expr, LegendFormat string }
	var d struct {
		Panels []struct {
			ID          int
			Title, Type string
			Targets     []target
			GridPos     struct{ X, Y, W, H int }
		}
		Annotations struct {
			List []struct{ Name, Expr, TextFormat string }
		}
		Templating struct {
			List []struct {
				Name, Type string
				Query      any
			}
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	var all []asked
	seen := map[int]bool{}
	for i, p := range d.Panels {
		if seen[p.ID] {
			t.Errorf("two panels have the number %d", p.ID)
		}
		seen[p.ID] = true
		for _, other := range d.Panels[:i] {
			a, b := p.GridPos, other.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("the panels %q and %q cover each other", p.Title, other.Title)
			}
		}
		for _, q := range p.Targets {
			all = append(all, asked{where: "panel " + p.Title, expression: replaced(q.Expr), labels: matches(`{{(\w+)}}`, q.LegendFormat)})
		}
	}
	for _, a := range d.Annotations.List {
		all = append(all, asked{where: "annotation " + a.Name, expression: replaced(a.Expr), labels: matches(`{{(\w+)}}`, a.TextFormat), alert: true})
	}
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		query, _ := v.Query.(map[string]any)["query"].(string)
		parts := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(query)
		if parts == nil {
			t.Errorf("variable %s: %q", v.Name, query)
			continue
		}
		all = append(all, asked{where: "variable " + v.Name, expression: replaced(parts[1]), labels: parts[2:]})
	}
	return all
}

func replaced(expression string) string {
	return strings.NewReplacer("$namespace", ".*", "$job", ".*", "$pod", ".*", "$__rate_interval", "1m", "$__range", "1h", "$__interval", "1m").Replace(expression)
}

func matches(pattern, text string) []string {
	var all []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

func parsed(t *testing.T, a asked) parser.Expr {
	t.Helper()
	expression, err := parser.NewParser(parser.Options{}).ParseExpr(a.expression)
	if err != nil {
		t.Fatalf("%s: %s: %v", a.where, a.expression, err)
	}
	return expression
}

// selectors returns what a query selects, each without its range.
func selectors(t *testing.T, a asked) []*parser.VectorSelector {
	t.Helper()
	var all []*parser.VectorSelector
	parser.Inspect(parsed(t, a), func(node parser.Node, _ []parser.Node) error {
		if v, ok := node.(*parser.VectorSelector); ok {
			all = append(all, v)
		}
		return nil
	})
	if len(all) == 0 {
		t.Errorf("%s: %s selects nothing", a.where, a.expression)
	}
	return all
}

// grouping returns the labels that a query aggregates by. "le" is in no other series than buckets, and those have it.
func grouping(t *testing.T, a asked) []string {
	t.Helper()
	var all []string
	parser.Inspect(parsed(t, a), func(node parser.Node, _ []parser.Node) error {
		if g, ok := node.(*parser.AggregateExpr); ok {
			all = append(all, g.Grouping...)
		}
		return nil
	})
	return all
}

func labelled(series []map[string]string, name string) bool {
	return slices.ContainsFunc(series, func(labels map[string]string) bool { return labels[name] != "" })
}
