package trigger_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestPlainFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "app.conf")
	write(t, file, "0")
	r := watching(t, file)
	for i := range 3 {
		write(t, file, fmt.Sprint("in place ", i))
		r.expect(file)
		replace(t, file, fmt.Sprint("by rename ", i))
		r.expect(file)
	}

	must(t, os.Chmod(file, 0o600))
	must(t, os.Chtimes(file, time.Now(), time.Now()))
	replace(t, file, "by rename 2")
	write(t, filepath.Join(dir, "other"), "nothing to do with it")
	r.quiet()

	must(t, os.Rename(file, file+".bak"))
	r.quiet()
	must(t, os.Rename(file+".bak", file))
	r.quiet()
	must(t, os.Remove(file))
	write(t, file, "another")
	r.expect(file)
}

func TestPlainDirectory(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), "1")
	r := watching(t, dir)

	deep := filepath.Join(mkdir(t, filepath.Join(dir, "x/y/z")), "deep")
	write(t, deep, "1")
	r.expect(deep)
	write(t, deep, "2")
	r.expect(deep)
	write(t, filepath.Join(dir, "..hidden"), "the kubelet's")
	r.quiet()
	must(t, os.RemoveAll(filepath.Join(dir, "x")))
	r.quiet()
	write(t, filepath.Join(mkdir(t, filepath.Join(dir, "x/y/z")), "deep"), "3")
	r.expect(deep)
}

func TestVanishedDirectoryReturns(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "conf")
	file := filepath.Join(mkdir(t, dir), "a")
	write(t, file, "1")
	for name, path := range map[string]string{"directory": dir, "file": file} {
		t.Run(name, func(t *testing.T) {
			write(t, file, "1")
			r := watching(t, path)
			for i := range 5 {
				must(t, os.RemoveAll(dir))
				r.quiet()
				write(t, filepath.Join(mkdir(t, dir), "a"), fmt.Sprint(i+2))
				r.expect(file)
				must(t, os.Rename(dir, dir+".old"))
				r.quiet()
				write(t, filepath.Join(mkdir(t, dir), "a"), fmt.Sprint(i+2))
				must(t, os.RemoveAll(dir+".old"))
				r.quiet()
			}
		})
	}
}

func TestPathThatAppearsLater(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "not/yet/there")
	r := watching(t, file)
	if got := r.w.Warnings(); len(got) != 1 || got[0] != file+" does not exist" {
		t.Errorf("warnings: %q", got)
	}
	write(t, filepath.Join(mkdir(t, filepath.Dir(file)), "there"), "1")
	r.expect(file)
	write(t, file, "2")
	r.expect(file)
	r.until("the warning is over", func() bool { return len(r.w.Warnings()) == 0 })
}

func TestSymlinkSwappedHigherUp(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"1", "2", "3"} {
		write(t, filepath.Join(mkdir(t, filepath.Join(dir, "releases", n, "etc")), "conf"), n)
	}
	at := func(to string) {
		must(t, os.Symlink(to, filepath.Join(dir, "next")))
		must(t, os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "current")))
	}
	at("releases/1")
	etc := filepath.Join(dir, "current/etc")
	conf := filepath.Join(etc, "conf")
	r := watching(t, conf, etc)
	at("releases/2")
	r.expect(conf)
	at(filepath.Join(dir, "releases/../releases/3"))
	r.expect(conf)
	at("releases/3")
	r.quiet()
	write(t, filepath.Join(dir, "releases/3/etc/conf"), "in place, behind the link")
	r.expect(conf)
	write(t, filepath.Join(dir, "releases/2/etc/conf"), "where no link leads")
	r.quiet()
}

func TestSymlinkedFileInADirectory(t *testing.T) {
	dir := t.TempDir()
	enabled, available := mkdir(t, filepath.Join(dir, "enabled")), mkdir(t, filepath.Join(dir, "available"))
	write(t, filepath.Join(available, "site"), "1")
	link := filepath.Join(enabled, "site")
	must(t, os.Symlink("../available/site", link))
	must(t, os.Symlink("/", filepath.Join(enabled, "everything"))) // not followed
	must(t, os.Symlink("loop", filepath.Join(enabled, "loop")))
	r := watching(t, enabled)
	write(t, filepath.Join(available, "site"), "2")
	r.expect(link)
	must(t, os.Remove(link))
	r.quiet()
}

func TestContentThatChangesBackIsSilent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a")
	write(t, file, "A")
	r := watching(t, file)
	write(t, file, "B")
	r.noticed()
	write(t, file, "A")
	r.quiet()
}

func TestWhatChangedBetweenNewAndRunIsReportedOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a")
	write(t, file, "1")
	r := newRig(t, options(file))
	write(t, file, "2")
	r.run()
	r.expect(file)
	r.quiet()

	r.stop()
	write(t, file, "3")
	r.run()
	r.expect(file)
	r.quiet()
}

func TestReadDoesNotHideAChange(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a")
	write(t, file, "1")
	r := watching(t, file)
	before := r.w.Hash()
	write(t, file, "2")
	now := r.w.Read()
	if now == before || now != r.w.Hash() {
		t.Errorf("before %s, read %s, then Hash %s", before, now, r.w.Hash())
	}
	if c := r.expect(file); c.Hash != now {
		t.Errorf("reported %s, read %s", c.Hash, now)
	}
}

func TestSpecialFilesAreSkipped(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a")
	write(t, file, "1")
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(dir, "socket")}))
	must(t, os.Symlink("/dev/zero", filepath.Join(dir, "zero")))
	r := watching(t, dir)
	if got := r.w.Warnings(); len(got) != 0 {
		t.Errorf("warnings: %q", got)
	}
	write(t, file, "2")
	r.expect(file)
	must(t, os.Remove(file))
	must(t, unix.Mkfifo(file, 0o600))
	r.quiet()
}

// A loop of symlinks stands for a file that is there and can't be read: unlike its mode, root can't see past it.
func TestUnreadableFileKeepsItsLastContent(t *testing.T) {
	dir := t.TempDir()
	file, other := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, file, "1")
	write(t, other, "1")
	for name, path := range map[string]string{"file": file, "directory": dir} {
		t.Run(name, func(t *testing.T) {
			r := watching(t, path)
			hash := r.w.Hash()
			must(t, os.Rename(file, dir+"/../kept"))
			must(t, os.Symlink("a", file))
			r.passing("a warning", func() bool { return len(r.w.Warnings()) == 1 })
			want := file + " can't be read, its last known content stands: " + syscall.ELOOP.Error()
			if got := r.w.Warnings(); got[0] != want {
				t.Errorf("warning %q, want %q", got[0], want)
			}
			if got := r.w.Read(); got != hash {
				t.Errorf("hash %s, was %s", got, hash)
			}
			r.quiet()
			must(t, os.Rename(dir+"/../kept", file))
			r.quiet()
			if got := r.w.Warnings(); len(got) != 0 {
				t.Errorf("warnings that last: %q", got)
			}
		})
	}
}

func TestHugeFileIsStreamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "huge")
	write(t, file, "")
	must(t, os.Truncate(file, 64<<20))
	r := watching(t, file)
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			r.w.Read()
		}
	}).AllocedBytesPerOp()
	if allocated > 1<<20 {
		t.Errorf("%d bytes to read 64 MiB", allocated)
	}
	must(t, os.Truncate(file, 64<<20+1))
	r.expect(file)
}
