package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/e2e/harness"
)

// TestCompletion has each shell complete command lines by the script that holdfast prints for it.
func TestCompletion(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(shell); err != nil {
				t.Fatalf("%v: see e2e/deps.sh", err)
			}
			script := filepath.Join(t.TempDir(), "holdfast."+shell)
			text, err := exec.Command(harness.Bin(t), "completion", shell).Output()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(script, text, 0o644); err != nil {
				t.Fatal(err)
			}
			child := "--color"
			if shell == "bash" {
				child = "word 3" // the rest of the line, from its word 3, is bash-completion's
			}
			for line, want := range map[string]string{
				"holdfast --restar":                        "--restart",
				"holdfast --restart ":                      "on-failure",
				"holdfast --restart=on":                    "on-failure",
				"holdfast --ready ht":                      "http:",
				"holdfast --check 'nginx -t' --sett":       "--settle",
				"holdfast relo":                            "reload",
				"holdfast reload --wai":                    "--wait",
				"holdfast status -o ":                      "json",
				"holdfast probe ":                          "live",
				"holdfast --settle=1s -- sample --co":      child,
				"holdfast --ready http:/x --takeover requ": "require",
			} {
				got := complete(t, shell, script, line)
				found := slices.ContainsFunc(got, func(g string) bool {
					return g == want || strings.HasSuffix(g, "="+want) || strings.TrimSuffix(g, "=") == want
				})
				if !found {
					t.Errorf("%q is completed by %q, want %q among it", line, got, want)
				}
			}
			for _, line := range []string{"holdfast -- sample --settl", "holdfast sample --settl", "holdfast probe --settl"} {
				if got := complete(t, shell, script, line); slices.Contains(got, "--settle") {
					t.Errorf("%q is completed by holdfast's own flags: %q", line, got)
				}
			}
		})
	}
}

// complete returns what the shell offers at the end of line, without descriptions.
func complete(t *testing.T, shell, script, line string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	bare := map[string]string{"bash": "--norc", "zsh": "-f", "fish": "--no-config"}
	cmd := exec.CommandContext(ctx, shell, bare[shell], "testdata/complete."+shell, script, line)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "TERM=dumb")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("complete %q: %v: %s", line, err, out)
	}
	var all []string
	for l := range strings.Lines(string(out)) {
		word, _, _ := strings.Cut(strings.TrimSpace(l), "\t")
		all = append(all, word)
	}
	return all
}
