package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// house says which of holdfast's packages each one may import. A new arrow is a decision: draw it in
// docs/architecture.md, too.
func house() map[string][]string {
	parts := []string{
		"handoff/activation", "handoff/headroom", "handoff/machine", "handoff/port", "handoff/ready", "handoff/status", "handoff/takeover", "reaper",
	}
	return map[string][]string{
		".":                  append([]string{"docs/completion", "handoff", "handoff/control", "handoff/trigger", "probes", "reaper/catch", "e2e/demo"}, parts...),
		"docs/completion":    nil,
		"probes":             {"handoff/status"},
		"handoff":            parts,
		"handoff/headroom":   nil,
		"handoff/machine":    {"handoff/status"},
		"handoff/status":     nil,
		"handoff/port":       nil,
		"handoff/takeover":   {"reaper"},
		"handoff/activation": {"handoff/port"},
		"handoff/ready":      {"handoff/port"},
		"handoff/trigger":    nil,
		"handoff/control":    {"handoff/status"},
		"reaper":             nil,
		"reaper/catch":       {"reaper", "reaper/early"},
		"reaper/early":       nil,
	}
}

// goFiles parses the module's own Go files, without tests and what is only for testing.
func goFiles(t *testing.T) map[string]*ast.File {
	t.Helper()
	files := map[string]*ast.File{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			if path != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "e2e" || name == "deploy" || name == "dist" || name == "bin") {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && path != "." {
				return fs.SkipDir // a module of its own
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files[path], err = parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestArchitecture: the arrows between packages point down.
func TestArchitecture(t *testing.T) {
	allowed := house()
	documented := map[string]bool{}
	for path, file := range goFiles(t) {
		dir := filepath.ToSlash(filepath.Dir(path))
		if file.Doc != nil {
			documented[dir] = true
		}
		may, known := allowed[dir]
		if !known {
			t.Errorf("package %s is not in the table of this test, nor in docs/architecture.md", dir)
			continue
		}
		for _, spec := range file.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			if own, ok := strings.CutPrefix(imported, "holdfast/"); ok && !slices.Contains(may, own) {
				t.Errorf("%s imports %s: package %s may not", path, own, dir)
			}
		}
		if dir == "handoff/machine" {
			for _, spec := range file.Imports {
				if effects := []string{`"os"`, `"time"`, `"net"`, `"sync"`, `"golang.org/x/sys/unix"`}; slices.Contains(effects, spec.Path.Value) {
					t.Errorf("%s imports %s: decisions have no effects", path, spec.Path.Value)
				}
			}
		}
	}
	for dir := range allowed {
		if !documented[dir] {
			t.Errorf("package %s has no doc comment that says what it is for", dir)
		}
	}
}

// TestArchitecturePage: the functions that docs/architecture.md leads through are there, under those names.
func TestArchitecturePage(t *testing.T) {
	functions := map[string]bool{}
	names := map[string]bool{}
	for _, file := range goFiles(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			switch d := n.(type) {
			case *ast.FuncDecl:
				functions[d.Name.Name] = true
			case *ast.Ident:
				names[d.Name] = true
			}
			return true
		})
	}
	text, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, walk, _ := strings.Cut(string(text), "## One SIGHUP")
	walk, _, _ = strings.Cut(walk, "## The rules")
	found := 0
	for _, m := range regexp.MustCompile("`([A-Za-z.()*]+)`").FindAllStringSubmatch(walk, -1) {
		name := m[1][strings.LastIndex(m[1], ".")+1:]
		if name == "go" || name == "setsockopt" {
			continue
		}
		found++
		if !functions[name] && !names[name] {
			t.Errorf("docs/architecture.md speaks of %s, which is not there", m[1])
		}
	}
	if found < 30 {
		t.Errorf("only %d names were found in the walk", found)
	}
}

// TestEntry: whoever builds holdfast gives it its own entry point (reaper/early/entry.go). Without, it works but for the
// first half millisecond of signals, which few tests would tell.
func TestEntry(t *testing.T) {
	for _, file := range []string{"Makefile", "Dockerfile", ".goreleaser.yaml", "e2e/harness/build.go", "e2e/arm64/run.sh", "deploy/check/settings_test.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`-tags[ =",]+holdfast_entry`).Match(text) || !strings.Contains(string(text), "-E holdfast_entry -checklinkname=0") {
			t.Errorf("%s builds without holdfast_entry", file)
		}
	}
}
