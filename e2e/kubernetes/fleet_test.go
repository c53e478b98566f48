package kubernetes

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestRoll takes a new configuration through three pods, one after the other, with deploy/roll.sh: with a check in between
// that says no after the second, and with one that says yes.
func TestRoll(t *testing.T) {
	if _, err := exec.LookPath("jq"); err != nil {
		t.Skip("deploy/roll.sh needs jq")
	}
	a := deploy(t, "nginx", settings{replicas: 3, components: []string{"roll"}})
	steady, l := a.steady(), a.load()
	pods := a.names()
	a.configure(nginxConfig(t, 2))
	if out, err := a.roll(`[ "$1" != ` + pods[1] + ` ]`); err == nil || !strings.Contains(out, pods[1]+": the check failed") {
		t.Errorf("roll.sh went on after a failed check (%v):\n%s", err, out)
	}
	for i, want := range []int{2, 2, 1} {
		if got := a.status(pods[i]).Live; got != want {
			t.Errorf("%s: generation %d is live, want %d", pods[i], got, want)
		}
	}
	l.answered(2, 50)
	if l.snapshot().ByGeneration[1] == 0 {
		t.Error("nobody has answered with the old version")
	}
	if out, err := a.roll("true"); err != nil || strings.Count(out, "handed over") != 3 {
		t.Errorf("%v:\n%s", err, out)
	}
	steady.check()
	l.nothingLost("`deploy/roll.sh` with a check in between, 3 pods, stopped once", "nginx", 5)

	a.configure(nginxConfig(t, 3, "worker_processes 2;", "worker_processes two;"))
	if out, err := a.roll("true"); err == nil || !strings.Contains(out, pods[0]+": the handoff failed") || !strings.Contains(out, "the check failed") {
		t.Errorf("a broken configuration was taken through the fleet (%v):\n%s", err, out)
	}
	if got := a.status(pods[1]).Live; got != 3 {
		t.Errorf("%s: generation %d is live, want 3, as before", pods[1], got)
	}
}

// roll runs deploy/roll.sh in the test's namespace, by a kubeconfig of the test's own.
func (a *app) roll(check string) (string, error) {
	a.t.Helper()
	config := a.t.TempDir() + "/config"
	text := a.must("", "config", "view", "--raw", "--flatten", "--minify")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	a.must("", "--kubeconfig="+config, "config", "set-context", "--current", "--namespace="+a.name)
	cmd := exec.Command("../../deploy/roll.sh", "app.kubernetes.io/name="+a.overlay, "sh", "-c", check, "sh")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+config)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
