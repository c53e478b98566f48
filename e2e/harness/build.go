// Package harness runs the real holdfast binary for the end-to-end tests: plainly, or as a real PID 1 in a PID namespace
// of its own, as root or without any privilege. It waits on what holdfast says, never for a while, and ends every
// process that it started by its pid.
package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const (
	// binEnv names a holdfast that is there already, as in an image; without it, one is built.
	binEnv = "HOLDFAST_BIN"
	// dirEnv names where the binaries are built; Main sets it.
	dirEnv = "HOLDFAST_E2E_DIR"
)

// Main runs a package's tests and then removes what they built. Call it from TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "holdfast-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Setenv(dirEnv, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// root finds holdfast's module, once, from within a nested one too.
var root = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "holdfast").Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || dir == "" {
		return "", fmt.Errorf("find the module: %q: %w", dir, err)
	}
	return dir, nil
})

// built builds holdfast and naughty, once, and returns the directory they are in. Every user can read it, since
// holdfast is also run as one without privileges.
var built = sync.OnceValues(func() (string, error) {
	top, err := root()
	if err != nil {
		return "", err
	}
	dir := os.Getenv(dirEnv)
	if dir == "" {
		if dir, err = os.MkdirTemp("", "holdfast-e2e-"); err != nil {
			return "", err
		}
	}
	packages := []string{"-tags", "holdfast_entry", "-ldflags", "holdfast=-E holdfast_entry -checklinkname=0", "./e2e/servers/naughty"}
	if os.Getenv(binEnv) == "" {
		packages = append(packages, ".")
	}
	cmd := exec.Command("go", append([]string{"build", "-o", dir + "/"}, packages...)...)
	cmd.Dir = top
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // static, as the image has it
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %v: %w\n%s", packages, err, out)
	}
	return dir, os.Chmod(dir, 0o755)
})

// Bin is the holdfast binary.
func Bin(t testing.TB) string {
	t.Helper()
	if bin := os.Getenv(binEnv); bin != "" {
		return bin
	}
	return inBuilt(t, "holdfast")
}

// Naughty is the built e2e/servers/naughty.
func Naughty(t testing.TB) string {
	t.Helper()
	return inBuilt(t, "naughty")
}

// Servers is the directory e2e/servers.
func Servers(t testing.TB) string {
	t.Helper()
	top, err := root()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(top, "e2e", "servers")
}

func inBuilt(t testing.TB, name string) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}
