package main

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// literals returns every text in holdfast's own source.
func literals(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, file := range goFiles(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil {
					all = append(all, text)
				}
			}
			return true
		})
	}
	return all
}

func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestLogLinesInDocuments: each log line that docs/operating.md explains is one that holdfast writes.
func TestLogLinesInDocuments(t *testing.T) {
	all := literals(t)
	_, text, _ := strings.Cut(document(t, "operating.md"), "## Log lines")
	text, _, _ = strings.Cut(text, "## Metrics")
	lines := regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(text, -1)
	_, never, _ := strings.Cut(text, "### Never seen")
	lines = append(lines, regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(strings.ReplaceAll(never, "\n", " "), -1)...)
	if len(lines) < 30 {
		t.Fatalf("only %d lines found", len(lines))
	}
	for _, m := range lines {
		// Some are put together: "generation " and the state.
		written := slices.ContainsFunc(all, func(l string) bool {
			return l == m[1] || strings.HasSuffix(l, " ") && len(l) > 7 && strings.HasPrefix(m[1], l)
		})
		if !written {
			t.Errorf("docs/operating.md explains %q, which nobody writes", m[1])
		}
	}
}

// TestMetricsInDocuments: docs/operating.md has a line for each metric, and for no other.
func TestMetricsInDocuments(t *testing.T) {
	var real []string
	for _, file := range goFiles(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "family" {
				if lit, ok := call.Args[0].(*ast.BasicLit); ok {
					name, _ := strconv.Unquote(lit.Value)
					real = append(real, "holdfast_"+name)
				}
			}
			return true
		})
	}
	if len(real) < 20 {
		t.Fatalf("only %d metrics found in the source", len(real))
	}
	var told []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(holdfast_[a-z_]+)` \\|").FindAllStringSubmatch(document(t, "operating.md"), -1) {
		told = append(told, m[1])
	}
	for _, name := range real {
		if !slices.Contains(told, name) {
			t.Errorf("docs/operating.md lacks %s", name)
		}
	}
	for _, name := range told {
		if !slices.Contains(real, name) {
			t.Errorf("docs/operating.md tells of %s, which is not there", name)
		}
	}
}

// TestFlagsInDocuments: whatever page names a flag, the flag is there.
func TestFlagsInDocuments(t *testing.T) {
	known := map[string]bool{"help": true}
	for _, scope := range scopes() {
		for _, o := range scope.Options {
			known[o.Name] = true
		}
	}
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "README.md") {
		base := filepath.Base(page)
		if base == "servers.md" || base == "init.md" || base == "benchmarks.md" { // other programs' command lines
			continue
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		// Those that stand alone, or first after holdfast or a flag, are holdfast's.
		for _, m := range regexp.MustCompile("(?:`|holdfast |\"holdfast\", \")--([a-z][a-z-]+)").FindAllStringSubmatch(string(text), -1) {
			if !known[m[1]] && !slices.Contains(foreign(), m[1]) {
				t.Errorf("%s names --%s, which is no flag", page, m[1])
			}
		}
	}
}

// foreign are flags of other programs that the documents name by themselves.
func foreign() []string { return []string{"fd", "interval", "kill-old-delay", "envdir", "status-file"} }

// TestLinksInDocuments: what a page refers to is there.
func TestLinksInDocuments(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "README.md", "CONTRIBUTING.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`).FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s refers to %s: %v", page, m[1], err)
			}
		}
	}
}
