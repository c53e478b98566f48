package trigger_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// again runs the calling test once more in a process with those attributes, and is true in the caller, who is done then.
func again(t *testing.T, attributes *syscall.SysProcAttr) bool {
	t.Helper()
	if os.Getenv("TRIGGER_TEST_AGAIN") != "" {
		return false
	}
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	// Another user can't reach the directory that the test was built in, nor t.TempDir.
	dir, err := os.MkdirTemp("", "trigger")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o777))
	program := filepath.Join(dir, "test")
	data, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(program, data, 0o755))

	cmd := exec.Command(program, "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", "60s")
	cmd.Env = append(os.Environ(), "TRIGGER_TEST_AGAIN=1", "TMPDIR="+dir)
	cmd.Dir = dir
	cmd.SysProcAttr = attributes
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, fs.ErrPermission):
		t.Skip(err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("%s", out)
	}
	return true
}

// somebody is a user that nobody else runs as, not even another run of this test: inotify's limits are per user.
func somebody() *syscall.SysProcAttr {
	id := 100000 + uint32(os.Getpid())
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
}

func TestInotifyReallyExhausted(t *testing.T) {
	if again(t, somebody()) {
		return
	}
	var taken []int
	defer func() {
		for _, fd := range taken {
			unix.Close(fd)
		}
	}()
	for {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if errors.Is(err, unix.EMFILE) {
			break
		}
		must(t, err)
		if taken = append(taken, fd); len(taken) > 512 {
			t.Skip("the limit is too high to be reached")
		}
	}
	v := newVolume(t, map[string]string{"a": "0"})
	r := newRig(t, options(v.dir)).run()
	if got, want := fmt.Sprint(r.w.Warnings()), "[inotify has no instances left: polling every 2s]"; got != want {
		t.Errorf("warnings %s, want %s", got, want)
	}
	v.write(map[string]string{"a": "1"})
	r.expect(v.path("a"))

	unix.Close(taken[0])
	taken = taken[1:]
	r.passing("inotify is back", func() bool { return len(r.w.Warnings()) == 0 })
	v.write(map[string]string{"a": "2"})
	r.noticed()
	r.expect(v.path("a"))
}

func TestFileWithoutPermission(t *testing.T) {
	if again(t, somebody()) {
		return
	}
	file := filepath.Join(t.TempDir(), "a")
	write(t, file, "1")
	r := newRig(t, options(file)).run() // a directory without permission can't be watched
	hash := r.w.Hash()
	must(t, os.Chmod(file, 0))
	r.passing("a warning", func() bool { return len(r.w.Warnings()) == 1 })
	if got := r.w.Read(); got != hash {
		t.Errorf("hash %s, was %s", got, hash)
	}
	r.quiet()
	must(t, os.Chmod(file, 0o600))
	r.quiet()
	must(t, os.Chmod(filepath.Dir(file), 0))
	r.quiet()
	must(t, os.Chmod(filepath.Dir(file), 0o700))
	r.quiet()
	write(t, file, "2")
	r.expect(file)
}

func TestMountsOfTheKubelet(t *testing.T) {
	if again(t, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}) {
		return
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skip(err)
	}
	v := newVolume(t, map[string]string{"a": "1", "sub/b": "1"})
	bind := func(from, to string) {
		t.Helper()
		must(t, unix.Mount(from, to, "", unix.MS_BIND, ""))
		t.Cleanup(func() { unix.Unmount(to, unix.MNT_DETACH) })
	}
	pod := t.TempDir()
	file, dir, whole := filepath.Join(pod, "a"), mkdir(t, filepath.Join(pod, "sub")), mkdir(t, filepath.Join(pod, "whole volume"))
	host, plain := filepath.Join(pod, "host"), filepath.Join(pod, "plain")
	write(t, file, "")
	write(t, host, "")
	write(t, plain, "")
	bind(v.path("a"), file)
	bind(v.path("sub"), dir)
	bind(v.dir, whole)
	bind(plain, host)
	etc := mkdir(t, filepath.Join(pod, "etc"))
	write(t, filepath.Join(etc, "a"), "")
	write(t, filepath.Join(etc, "hosts"), "")
	bind(v.path("a"), filepath.Join(etc, "a"))
	bind(plain, filepath.Join(etc, "hosts"))
	// Two files of one directory, each under another path: inotify has one watch for both, and tells only one path.
	here, there := mkdir(t, filepath.Join(pod, "here")), mkdir(t, filepath.Join(pod, "there"))
	bind(here, there)
	write(t, filepath.Join(here, "x"), "1")
	write(t, filepath.Join(here, "y"), "1")

	r := watching(t, file, dir, whole, host, etc, v.dir, filepath.Join(here, "x"), filepath.Join(there, "y"))
	want := []string{
		file + " is a subPath mount: the kubelet never updates it",
		filepath.Join(etc, "a") + " is a subPath mount: the kubelet never updates it",
		host + " is a mount of a single file: what replaces that by rename is never seen",
		dir + " is a subPath mount: the kubelet never updates it",
	}
	if got := r.w.Warnings(); !slices.Equal(got, want) {
		t.Errorf("warnings %q, want %q", got, want)
	}
	for i := range 3 {
		v.write(map[string]string{"a": fmt.Sprint(i + 2), "sub/b": "1"})
		r.expect(v.path("a"), filepath.Join(whole, "a"))
	}
	for i := range 3 {
		write(t, filepath.Join(here, "x"), fmt.Sprint(i+2))
		r.expect(filepath.Join(here, "x"))
		write(t, filepath.Join(here, "y"), fmt.Sprint(i+2))
		r.expect(filepath.Join(there, "y"))
	}
	r.quiet()
}
