package port

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func names(t testing.TB, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestUnixPathTurnsBothWaysAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	p, _ := newPort(t, "unix://"+filepath.Join(dir, "s")+"?mode=0620")
	must(t, p.Open(1))
	info, err := os.Lstat(p.spec.Path)
	must(t, err)
	if info.Mode() != fs.ModeSocket|0o620 {
		t.Errorf("mode %v", info.Mode())
	}
	one := serve(t, p, 1)
	must(t, p.Open(2))
	serve(t, p, 2)
	for range 5 {
		must(t, p.Turn(2))
		verify(t, p, 1, 2)
		must(t, p.Turn(1))
		verify(t, p, 1, 2)
	}
	must(t, p.Turn(2))
	one.stop()
	_, err = p.Retire(1)
	must(t, err)
	verify(t, p, 2)
	if got := names(t, dir); len(got) != 2 {
		t.Errorf("left are %q; want the path and one name", got)
	}
	must(t, p.Close())
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("left are %q", got)
	}
}

// A server that stops may remove the path, which is not its own any more.
func TestUnixPathIsPutBack(t *testing.T) {
	p, _ := newPort(t, "unix://"+filepath.Join(t.TempDir(), "s"))
	must(t, p.Open(1))
	must(t, p.Open(2))
	serve(t, p, 2)
	must(t, p.Turn(2))
	must(t, os.Remove(p.spec.Path))
	_, err := p.Retire(1)
	must(t, err)
	verify(t, p, 2)
}

func TestUnixPathOfSomebodyElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	p, _ := newPort(t, "unix://"+path)
	must(t, os.WriteFile(path, []byte("precious"), 0o600))
	if err := p.Open(1); !errors.Is(err, errNotSocket) {
		t.Errorf("over a file: %v", err)
	}
	must(t, os.Remove(path))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	if err := p.Open(1); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("over a live socket: %v", err)
	}
	l.SetUnlinkOnClose(false)
	must(t, l.Close())
	must(t, p.Open(1)) // over a dead one
	serve(t, p, 1)
	verify(t, p, 1)
	must(t, os.Remove(path))
	must(t, os.WriteFile(path, []byte("precious"), 0o600))
	must(t, p.Close())
	if got := names(t, filepath.Dir(path)); len(got) != 1 || got[0] != "s" {
		t.Errorf("left are %q; want the file that took the path over", got)
	}
	nowhere, _ := newPort(t, "unix:///nonexistent/dir/s")
	if err := nowhere.Open(1); !errors.Is(err, unix.ENOENT) {
		t.Errorf("in no directory: %v", err)
	}
}

// What a holdfast that was killed left behind goes, and nothing else.
func TestUnixLeftovers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	for _, name := range []string{path + mark + "1-ABCDEF", path + mark + "7-ABCDEF", filepath.Join(dir, "other")} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		must(t, err)
		if strings.HasSuffix(name, "7-ABCDEF") {
			defer l.Close()
			continue
		}
		l.SetUnlinkOnClose(false)
		must(t, l.Close())
	}
	must(t, os.WriteFile(path+mark+"file", nil, 0o600))
	p, _ := newPort(t, "unix://"+path)
	must(t, p.Open(1))
	must(t, p.Close())
	if got := strings.Join(names(t, dir), " "); got != "other s.holdfast-7-ABCDEF s.holdfast-file" {
		t.Errorf("left are %s", got)
	}
}

// Paths of every length that a client can use work, though the generations' own names are longer.
func TestUnixLongPaths(t *testing.T) {
	dir := t.TempDir()
	for _, length := range []int{80, 95, 100, maxPath} {
		path := filepath.Join(dir, strings.Repeat("x", length-len(dir)-1))
		long := filepath.Join(dir, strings.Repeat("d", length-len(dir)-3), "s")
		must(t, os.Mkdir(filepath.Dir(long), 0o700))
		for _, path := range []string{path, long} {
			p, _ := newPort(t, "unix://"+path)
			must(t, p.Open(1))
			serve(t, p, 1)
			must(t, p.Open(2))
			serve(t, p, 2)
			verify(t, p, 1, 2)
			must(t, p.Turn(2))
			verify(t, p, 1, 2)
			must(t, p.ProveAccept(testContext(t), 1))
			must(t, p.Close())
			if got, err := filepath.Glob(path + "*"); err != nil || len(got) != 0 {
				t.Errorf("left are %q", got)
			}
		}
	}
	if got, _ := filepath.Glob(dir + "/.h*"); len(got) != 0 {
		t.Errorf("left are %q", got)
	}
}

func TestUnixQueue(t *testing.T) {
	p, _ := newPort(t, "unix://"+filepath.Join(t.TempDir(), "s")+"?backlog=17")
	must(t, p.Open(1))
	connect(t, p)
	connect(t, p)
	fd, _ := p.FD(1)
	length, limit, err := unixQueue(fd)
	if err != nil {
		t.Skipf("no unix_diag here: %v", err)
	}
	if length != 2 || limit != 17 {
		t.Errorf("%d of %d; want 2 of 17", length, limit)
	}
}
