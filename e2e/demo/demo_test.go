package demo

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/e2e/load"
)

// TestDemo plays the show against a stand-in that does all right, and against some that do one thing wrong each: the
// show must tell, and not end with 0.
func TestDemo(t *testing.T) {
	for _, c := range []struct {
		fault string
		code  int
		says  string
	}{
		{"", 0, "rolled back           1          1"},
		{"lost", codeLost, "requests were lost"},
		{"no rollback", codeLost, "it was to be rolled back"},
		{"stale", codeLost, "answers as v1, not v2"},
		{"early", codeLost, "answered by the wrong generation"},
		{"exit code", codeLost, "holdfast ended: exit status 4"},
		{"dies", codeLost, "holdfast: no such luck"},
	} {
		t.Run(c.fault, func(t *testing.T) {
			code, out := play(t, t.Context(), c.fault)
			if code != c.code || !strings.Contains(strings.Join(strings.Fields(out), " "), strings.Join(strings.Fields(c.says), " ")) {
				t.Errorf("code %d, want %d and %q", code, c.code, c.says)
			}
		})
	}
}

// TestDemoInterrupted: Ctrl-C ends it cleanly, in the midst of a step that would never end.
func TestDemoInterrupted(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(900*time.Millisecond, stop)
	code, out := play(t, ctx, "deaf") // which gives up by itself, with another code
	if code != codeInterrupted || !strings.Contains(out, "interrupted") {
		t.Errorf("code %d: %s", code, out)
	}
}

func TestUsage(t *testing.T) {
	if code := Run(t.Context(), "", []string{"what"}, io.Discard); code != codeError {
		t.Error(code)
	}
}

func TestWrap(t *testing.T) {
	long := strings.Repeat("word ", 50)
	for _, l := range strings.Split(wrap(long, 25), "\n") {
		if len(l) > width || !strings.HasPrefix(strings.TrimSpace(l), "word") {
			t.Errorf("%q", l)
		}
	}
	if got := strings.Fields(wrap(long, 25)); len(got) != 50 {
		t.Errorf("%d words", len(got))
	}
	if got := wrap(strings.Repeat("é", 250), 4); strings.Count(got, "é") != 250 || strings.Count(got, "\n") != 2 {
		t.Errorf("%q", got)
	}
}

// TestConfigMap: readers see the old or the new, whole.
func TestConfigMap(t *testing.T) {
	c, err := newConfigMap(filepath.Join(t.TempDir(), "c"), "v1", behaviourOK)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"v1", "v2", "v3"} {
		if want != "v1" {
			if err := c.update(want, "is "+want); err != nil {
				t.Fatal(err)
			}
		}
		version, err := read(c.dir, "version")
		behaviour, err2 := read(c.dir, "behaviour")
		if err != nil || err2 != nil || version != want || want != "v1" && behaviour != "is "+want {
			t.Errorf("%q %q, %v %v", version, behaviour, err, err2)
		}
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil || len(entries) != 4 { // ..data, its directory, and two links
		t.Errorf("%v %v", entries, err)
	}
}

// TestServe starts the sample server as holdfast would.
func TestServe(t *testing.T) {
	c, err := newConfigMap(filepath.Join(t.TempDir(), "c"), "v7", behaviourOK)
	if err != nil {
		t.Fatal(err)
	}
	for _, behaviour := range []string{behaviourOK, behaviourBroken} {
		if err := c.update("v7", behaviour); err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cmd := serveCommand(t, c.dir, ln)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		url := "http://" + ln.Addr().String() + "/healthz"
		resp, err := http.Get(url) // it waits in the queue until the server is there
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if want := map[string]int{behaviourOK: 200, behaviourBroken: 500}[behaviour]; resp.StatusCode != want {
			t.Errorf("%s: status %d", behaviour, resp.StatusCode)
		}
		v := newVersions()
		l := load.New(load.Options{Address: ln.Addr().String(), Generation: v.generation, MaxRequests: 100})
		l.Start(t.Context())
		for l.Snapshot().Requests < 100 {
			time.Sleep(time.Millisecond)
		}
		if r := l.Stop(); r.Lost() != 0 || r.ByGeneration[5] != 100 || v.of(5) != "v7" {
			t.Errorf("%v as %s", r, v.of(5))
		}
		_ = ln.Close()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	if err := c.update("v7", behaviourExit); err != nil {
		t.Fatal(err)
	}
	cmd := serveCommand(t, c.dir, nil)
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != exitBroken {
		t.Errorf("exit %d", code)
	}
	if err := c.update("v7", behaviourOK); err != nil {
		t.Fatal(err)
	}
	cmd = serveCommand(t, c.dir, nil)
	if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != codeLost || !strings.Contains(string(out), "given no socket") {
		t.Errorf("without a socket: exit %d, %s", cmd.ProcessState.ExitCode(), out)
	}
}

func serveCommand(t *testing.T, dir string, ln net.Listener) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh", self, "demo", "serve", dir)
	cmd.Env = append(os.Environ(), "HOLDFAST_GENERATION=5")
	if ln != nil {
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		cmd.ExtraFiles, cmd.Env = []*os.File{f}, append(cmd.Env, "LISTEN_FDS=1")
	}
	return cmd
}
