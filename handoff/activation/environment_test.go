package activation_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/handoff/activation"
)

const patience = 90 * time.Second

// envLimit is MAX_ARG_STRLEN: a variable with its NUL.
const envLimit = 32 * 4096

func write(t testing.TB, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEnvFile(t *testing.T) {
	long := strings.Repeat("x", envLimit-len("A=")-10)
	for name, c := range map[string]struct {
		content string
		want    []string
		wrong   string // what the error says
	}{
		"empty":                {"", nil, ""},
		"lines":                {"A=1\nB=2\n", []string{"A=1", "B=2"}, ""},
		"no end of line":       {"A=1\nB=2", []string{"A=1", "B=2"}, ""},
		"CRLF":                 {"A=1\r\nB=2\r\n", []string{"A=1", "B=2"}, ""},
		"quotes are kept":      {`A="x y"` + "\nB='z'\n", []string{`A="x y"`, "B='z'"}, ""},
		"spaces are kept":      {"A= x  \n", []string{"A= x  "}, ""},
		"indented":             {"  \tA=1\n", []string{"A=1"}, ""},
		"comments":             {"# one\n   # two\nA=1 # not one\n#B=2\n", []string{"A=1 # not one"}, ""},
		"empty lines":          {"\n\n  \t\r\nA=1\n\r\n", []string{"A=1"}, ""},
		"no value":             {"A=\n", []string{"A="}, ""},
		"= in the value":       {"A=b=c\n", []string{"A=b=c"}, ""},
		"twice":                {"A=1\nA=2\n", []string{"A=1", "A=2"}, ""},
		"bytes":                {"A=\xff\xfe\n", []string{"A=\xff\xfe"}, ""},
		"long":                 {"A=" + long + "\nB=1\n", []string{"A=" + long, "B=1"}, ""},
		"a name alone":         {"A=1\nB\n", nil, `line 2: want NAME=value, not "B"`},
		"no name":              {"A=1\n\n=x\n", nil, `line 3: want NAME=value, not "=x"`},
		"space in the name":    {"# c\nexport A=1\n", nil, `line 2: want NAME=value, not "export A=1"`},
		"space behind it":      {"A =1\n", nil, "line 1: "},
		"NUL in the value":     {"A=1\x002\n", nil, "line 1: "},
		"NUL in the name":      {"A\x00=1\n", nil, "line 1: "},
		"too long":             {"A=1\nB=" + strings.Repeat("x", envLimit) + "\n", nil, "line 2 is too long"},
		"an error is one line": {strings.Repeat("y", 500) + "\n", nil, "line 1: "},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, filepath.Join(t.TempDir(), "env"), c.content)
			got, err := activation.EnvFile(path)
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) || !strings.Contains(err.Error(), path) ||
					strings.Contains(err.Error(), "\n") || len(err.Error()) > len(path)+200 {
					t.Errorf("got %.80q, %v, want an error with %q", got, err, c.wrong)
				}
				return
			}
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %.80q, %v, want %.80q", got, err, c.want)
			}
		})
	}
	if _, err := activation.EnvFile(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// soon fails if f waits.
func soon(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: it waits", what)
	}
}

// TestEnvFileIrregular: what has no content of its own must not hold up PID 1, nor be empty the second time.
func TestEnvFileIrregular(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, t.TempDir(), "/dev/null", "/dev/zero"} {
		soon(t, path, func() {
			if got, err := activation.EnvFile(path); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("EnvFile(%s) = %q, %v", path, got, err)
			}
		})
	}
}

// TestEnvDir reads a directory as the kubelet lays out a ConfigMap, with all that may be there besides.
func TestEnvDir(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "..2026_01_01")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"A": "1", "B": "2\n", "C": "two\nlines\n\n", "D": "", "E.properties": "x=y\n", "CRLF": "v\r\n", "Q": `"q"`, "F": "\n",
	} {
		write(t, filepath.Join(data, name), content)
		if err := os.Symlink("..data/"+name, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"..data": "..2026_01_01", "GONE": "..data/GONE"} { // GONE: just taken away
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, ".hidden"), "no")
	write(t, filepath.Join(dir, "sub", "DEEP"), "no")
	if err := unix.Mkfifo(filepath.Join(dir, "FIFO"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []string{"A=1", "B=2", "C=two\nlines\n", "CRLF=v\r", "D=", "E.properties=x=y", "F=", `Q="q"`}
	soon(t, "reading it", func() {
		if got, err := activation.EnvDir(dir); err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	})
	if _, err := activation.EnvDir(filepath.Join(dir, "none")); err == nil {
		t.Error("no directory, and no error")
	}
	if _, err := activation.EnvDir(filepath.Join(dir, "A")); err == nil {
		t.Error("a file, and no error")
	}
}

// TestEnvDirWrong: a file that cannot be a variable is named. One byte less would do.
func TestEnvDirWrong(t *testing.T) {
	most := strings.Repeat("x", envLimit-len("NAME=")-len("\x00"))
	for name, c := range map[string]struct {
		file, content string
		good          bool
	}{
		"NUL":          {"NAME", "a\x00b", false},
		"= in a name":  {"N=M", "v", false},
		"too large":    {"NAME", most + "x", false},
		"just fitting": {"NAME", most, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := write(t, filepath.Join(dir, c.file), c.content)
			got, err := activation.EnvDir(dir)
			if c.good {
				if err != nil || len(got) != 1 {
					t.Fatalf("got %d, %v", len(got), err)
				}
				// The kernel agrees.
				if err := (&exec.Cmd{Path: "/bin/true", Args: []string{"true"}, Env: got}).Run(); err != nil {
					t.Errorf("the kernel does not take it: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("got %.60q, %v, want an error that names %s", got, err, path)
			}
		})
	}
}

func FuzzEnvFile(f *testing.F) {
	f.Add([]byte("A=1\n#c\n B=\"2\"\r\n\n"))
	f.Add([]byte("=x\n"))
	f.Add([]byte("A\x00=1"))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := write(t, filepath.Join(t.TempDir(), "env"), string(content))
		env, err := activation.EnvFile(path)
		if err != nil {
			if !strings.Contains(err.Error(), path) || strings.ContainsAny(strings.ReplaceAll(err.Error(), path, ""), "\n\x00") {
				t.Errorf("error %q", err)
			}
			return
		}
		for _, kv := range env {
			name, _, ok := strings.Cut(kv, "=")
			if !ok || name == "" || strings.ContainsAny(name, " \t") || strings.ContainsAny(kv, "\n\x00") || len(kv) >= envLimit {
				t.Errorf("variable %.60q", kv)
			}
		}
	})
}

// TestPassed: sockets that were this process' own are its child's; another's are not.
func TestPassed(t *testing.T) {
	env := []string{"A=1", "LISTEN_FDS=2", "LISTEN_PID=7", "LISTEN_FDNAMES=a:b", "LISTEN_FDS_FIRST_FD=5"}
	for _, c := range []struct {
		env  []string
		pid  int
		want []string
	}{
		{env, 7, []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=a:b", "LISTEN_FDS_FIRST_FD=5"}},
		{env, 8, nil},
		{env[:2], 7, nil},
	} {
		if got := activation.Passed(c.env, c.pid); !slices.Equal(got, c.want) {
			t.Errorf("Passed(%q, %d) = %q, want %q", c.env, c.pid, got, c.want)
		}
	}
}

// TestEnvDirWhileItIsReplaced: what a generation gets is of one update of the volume, never half of one.
func TestEnvDirWhileItIsReplaced(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "..data")
	publish := func(n int) (err error) { // as the kubelet's AtomicWriter does
		old, _ := os.Readlink(link)
		stamped := fmt.Sprintf("..%d", n)
		err = os.Mkdir(filepath.Join(dir, stamped), 0o755)
		for k := 0; k < 20 && err == nil; k++ {
			err = os.WriteFile(filepath.Join(dir, stamped, fmt.Sprintf("K%d", k)), fmt.Append(nil, n), 0o644)
		}
		if err == nil {
			err = os.Symlink(stamped, link+"_tmp")
		}
		if err == nil {
			err = os.Rename(link+"_tmp", link)
		}
		if err == nil && old != "" {
			err = os.RemoveAll(filepath.Join(dir, old))
		}
		return err
	}
	if err := publish(1); err != nil {
		t.Fatal(err)
	}
	for k := range 20 {
		if err := os.Symlink(fmt.Sprintf("..data/K%d", k), filepath.Join(dir, fmt.Sprintf("K%d", k))); err != nil {
			t.Fatal(err)
		}
	}
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for n := 2; err == nil; n++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
				err = publish(n)
			}
		}
		stopped <- err
	}()
	whole := 0
	for range 500 {
		env, err := activation.EnvDir(dir)
		if err != nil {
			continue // replaced all the time, as no volume is
		}
		values := map[string]bool{}
		for _, kv := range env {
			_, value, _ := strings.Cut(kv, "=")
			values[value] = true
		}
		if len(env) != 20 || len(values) != 1 {
			t.Fatalf("a mixture: %q", env)
		}
		whole++
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if whole == 0 {
		t.Error("it was never read")
	}
}

// FuzzEnvDir: a file of a mounted ConfigMap becomes a variable that execve(2) takes, or an error that names it.
func FuzzEnvDir(f *testing.F) {
	f.Add("NAME", []byte("value\n"))
	f.Add("with=equals", []byte("x"))
	f.Add("nul", []byte("a\x00b"))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		dir := t.TempDir()
		if os.WriteFile(filepath.Join(dir, filepath.Base(name)), content, 0o600) != nil {
			return // no file can have that name
		}
		env, err := activation.EnvDir(dir)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: want one line, not %q", name, err)
			}
			return
		}
		for _, kv := range env {
			if n, _, ok := strings.Cut(kv, "="); !ok || n == "" || strings.Contains(kv, "\x00") {
				t.Errorf("%q, %q: variable %q", name, content, kv)
			}
		}
	})
}
