package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
)

// TestContainer runs holdfast where it belongs: in a container that holds nothing but it and a server, as uid 65532
// without capabilities, under no_new_privs, with a read-only root and no directory to write to. Its commands are run by
// runc exec, as kubectl exec does.
func TestContainer(t *testing.T) {
	if _, err := exec.LookPath("runc"); err != nil || os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatalf("no runc, or not root: %v", err)
		}
		t.Skip("needs runc and root")
	}
	c := newContainer(t)
	address, probes := fmt.Sprintf("127.0.0.1:%d", freeport.Choose(t)), fmt.Sprintf("127.0.0.1:%d", freeport.Choose(t))
	c.start(t, "/holdfast", "--listen", address, "--probe-addr", probes, "--settle", "100ms", "--", "/naughty")
	c.until(t, "it is ready", func() bool { return answers(probes, "/readyz") == http.StatusOK })
	l := startLoad(t, address)
	for n := 2; n <= 4; n++ {
		flow(t, l, 50)
		if out, err := c.exec("/holdfast", "reload", "--wait"); err != nil || !strings.Contains(out, fmt.Sprintf("generation %d is live", n)) {
			t.Errorf("reload --wait: %v: %s", err, out)
		}
	}
	if out, err := c.exec("/holdfast", "probe", "ready"); err != nil {
		t.Errorf("probe ready: %v: %s", err, out)
	}
	if out, err := c.exec("/holdfast", "status"); err != nil || !strings.Contains(out, "live: generation 4") {
		t.Errorf("status: %v: %s", err, out)
	}
	nothingLost(t, l, nil)
	if out, err := exec.Command("runc", "--root", c.state, "kill", c.name, "TERM").CombinedOutput(); err != nil {
		t.Fatalf("runc kill: %v: %s", err, out)
	}
	if code := c.wait(t); code != 0 {
		t.Errorf("exit code %d, want the server's 0", code)
	}
}

// container is one that runc runs, in the network of the test so that only loopback is used.
type container struct {
	name, bundle, state string
	cmd                 *exec.Cmd
	output              strings.Builder
	ended               chan struct{}
}

func newContainer(t *testing.T) *container {
	t.Helper()
	c := &container{
		name: fmt.Sprintf("holdfast-e2e-%d", os.Getpid()), bundle: t.TempDir(), state: t.TempDir(), ended: make(chan struct{}),
	}
	root := filepath.Join(c.bundle, "rootfs")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{"holdfast": harness.Bin(t), "naughty": harness.Naughty(t)} {
		if err := copyFile(filepath.Join(root, name), from); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (c *container) start(t *testing.T, args ...string) {
	t.Helper()
	type object = map[string]any
	spec := object{
		"ociVersion": "1.0.2",
		"process": object{
			"user": object{"uid": 65532, "gid": 65532}, "args": args, "cwd": "/", "env": []string{"PATH=/"},
			"capabilities": object{}, "noNewPrivileges": true,
		},
		"root": object{"path": "rootfs", "readonly": true},
		"mounts": []object{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755", "size=64k"}},
		},
		"linux": object{"namespaces": []object{{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}}},
	}
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.bundle, "config.json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	c.cmd = exec.Command("runc", "--root", c.state, "run", "--bundle", c.bundle, c.name)
	c.cmd.Stdout, c.cmd.Stderr = &c.output, &c.output
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		c.cmd.Wait()
		close(c.ended)
	}()
	t.Cleanup(func() {
		exec.Command("runc", "--root", c.state, "delete", "--force", c.name).Run() // an error says that it has ended
		<-c.ended
		if t.Failed() {
			t.Logf("the container wrote:\n%s", c.output.String())
		}
	})
}

func (c *container) exec(args ...string) (string, error) {
	out, err := exec.Command("runc", append([]string{"--root", c.state, "exec", c.name}, args...)...).CombinedOutput()
	return string(out), err
}

func (c *container) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-c.ended:
		return c.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		t.Fatal("the container has not ended")
		return -1
	}
}

func (c *container) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(5 * time.Millisecond) {
		select {
		case <-c.ended:
			t.Fatalf("the container has ended before %s", what)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// answers returns the code with which a path is answered; 0 = not at all.
func answers(address, path string) int {
	response, err := http.Get("http://" + address + path)
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}
