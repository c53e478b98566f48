package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
)

// binaries are holdfast and a server for it, built for these tests.
var binaries string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "holdfast-check-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-tags", "holdfast_entry", "-ldflags", "holdfast=-E holdfast_entry -checklinkname=0", "-o", dir+"/", ".", "./e2e/servers/naughty")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return 1
	}
	binaries = dir
	return m.Run()
}

func holdfast() string { return filepath.Join(binaries, "holdfast") }

// TestSettings has holdfast itself read the variables of every overlay, since it ignores one that belongs to no flag.
func TestSettings(t *testing.T) {
	help, err := exec.Command(holdfast(), "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range servers {
		t.Run(name, func(t *testing.T) {
			d := objects(t, "overlays/"+name)["Deployment"].(*apps.Deployment)
			c := d.Spec.Template.Spec.Containers[0]
			var env []string
			for _, e := range c.Env {
				flag, ok := strings.CutPrefix(e.Name, "HOLDFAST_")
				if !ok {
					continue
				}
				env = append(env, e.Name+"="+e.Value)
				flag = "--" + strings.ToLower(strings.ReplaceAll(flag, "_", "-"))
				if !strings.Contains(string(help), flag+" ") {
					t.Errorf("%s: holdfast has no flag %s", e.Name, flag)
				}
			}
			cmd := exec.Command(holdfast(), "--version") // it reads all the others all the same
			cmd.Env = env
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %v: %s", env, err, out)
			}
			graceful(t, d, c)
		})
	}
}

// graceful is that the kubelet does not kill the server while it still serves for --shutdown-delay.
func graceful(t *testing.T, d *apps.Deployment, c core.Container) {
	t.Helper()
	for _, e := range c.Env {
		if e.Name != "HOLDFAST_SHUTDOWN_DELAY" {
			continue
		}
		delay, err := time.ParseDuration(e.Value)
		if err != nil {
			t.Fatal(err)
		}
		grace := time.Duration(*d.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second
		if grace < delay+30*time.Second {
			t.Errorf("%v of grace leave less than 30 s to drain after a shutdown delay of %v", grace, delay)
		}
		return
	}
	t.Error("no HOLDFAST_SHUTDOWN_DELAY")
}
