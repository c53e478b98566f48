package reaper_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"slices"
	"strings"
	"testing"
)

// TestChildCode: what runs in a forked child keeps to what fork.go says may be done there. A breach would show only when a
// stack has to grow, or the collector runs, at that very moment.
func TestChildCode(t *testing.T) {
	harmless := []string{ // conversions, and what the compiler does by itself
		"syscall.RawSyscall6", "uintptr", "int", "int32", "uint32", "byte", "hint", "len", "unsafe.Pointer", "unsafe.Sizeof", "(*uintptr)",
	}
	parent := []string{"syscall.ForkLock.Lock", "syscall.ForkLock.Unlock", "runtimeBeforeFork", "runtimeAfterFork"}
	seen := 0
	for _, file := range []string{"fork.go", "forkfilter.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			name, may, directives := f.Name.Name, harmless, []string{"//go:nosplit", "//go:norace"}
			if name == "begin" { // it has its stack before the fork
				may, directives = slices.Concat(harmless, parent), directives[1:]
			} else if !strings.HasPrefix(name, "child") {
				t.Errorf("%s: %s is not called child…", file, name)
			}
			seen++
			for _, want := range directives {
				if f.Doc == nil || !slices.ContainsFunc(f.Doc.List, func(c *ast.Comment) bool { return c.Text == want }) {
					t.Errorf("%s: %s is not %s", file, name, want)
				}
			}
			ast.Inspect(f.Body, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					called := types.ExprString(n.Fun)
					if own := strings.TrimPrefix(called, "p."); !strings.HasPrefix(own, "child") && !slices.Contains(may, called) {
						t.Errorf("%s: %s calls %s", file, name, called)
					}
				case *ast.FuncLit, *ast.GoStmt, *ast.DeferStmt, *ast.SendStmt, *ast.SelectStmt, *ast.TypeAssertExpr, *ast.MapType, *ast.ChanType, *ast.InterfaceType:
					t.Errorf("%s: %s has a %T", file, name, n)
				}
				return true
			})
		}
	}
	if seen < 10 {
		t.Errorf("only %d functions were looked at", seen)
	}
}
