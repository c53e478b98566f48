package activation

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Merge returns base with more's variables set: a later one wins, and a name stands once.
func Merge(base, more []string) []string {
	set := make(map[string]bool, len(more))
	for _, kv := range more {
		name, _, _ := strings.Cut(kv, "=")
		set[name] = true
	}
	env := without(base, func(name string) bool { return set[name] })
	last := make(map[string]string, len(more))
	var order []string
	for _, kv := range more {
		name, _, _ := strings.Cut(kv, "=")
		if _, ok := last[name]; !ok {
			order = append(order, name)
		}
		last[name] = kv
	}
	for _, name := range order {
		env = append(env, last[name])
	}
	return env
}

// maxVariable is the kernel's limit for one string of an environment (execve(2): 32 pages).
const maxVariable = 32 * 4096

// EnvFile reads NAME=value lines, as docker's --env-file has them: the value is all that follows the first "=", quotes
// included; empty lines and those that begin with # do not count.
func EnvFile(path string) ([]string, error) {
	// Stat first: a fifo would wait for a writer, and what it gave would not be there for the next generation.
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read env file: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("read env file: %s is not a regular file: it is read anew for every generation", path)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read env file: %w", err)
	}
	var env []string
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, maxVariable)
	n := 1
	for ; lines.Scan(); n++ {
		line := strings.TrimLeft(lines.Text(), " \t") // a CR before the end of the line does not belong to it
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		name, _, ok := strings.Cut(line, "=")
		if !ok || name == "" || strings.ContainsAny(name, " \t\x00") || strings.Contains(line, "\x00") {
			return nil, fmt.Errorf("read env file: %s, line %d: want NAME=value, not %.40q", path, n, line)
		}
		env = append(env, line)
	}
	if lines.Err() != nil { // all that can go wrong in memory
		return nil, fmt.Errorf("read env file: %s, line %d is too long: want less than %d bytes", path, n, maxVariable)
	}
	return env, nil
}

// EnvDir reads a directory of files: the name is the variable's, the content its value, less one newline at the end. A
// mounted ConfigMap is such a directory; what begins with a dot (..data and its like) is not a variable. A file that
// cannot be one, because of its name, its size or a NUL byte, is an error that names it.
//
// The variables are of one update of a mounted volume, also while the kubelet publishes another.
func EnvDir(path string) ([]string, error) {
	for range maxTries {
		data := filepath.Join(path, "..data")
		published, err := os.OpenRoot(data)
		if err != nil { // a plain directory, or one that is not there: reading it says so
			return envFiles(path, os.DirFS(path))
		}
		env, err := envFiles(path, published.FS())
		// The old directory is emptied only after another has taken its place.
		read, err1 := published.Stat(".")
		now, err2 := os.Stat(data)
		published.Close()
		if err1 == nil && err2 == nil && os.SameFile(read, now) {
			return env, err
		}
	}
	return nil, fmt.Errorf("read env directory: %s is replaced faster than it can be read", path)
}

// maxTries bounds how often a read starts over because the kubelet has taken away what it was reading. Updates come
// minutes apart.
const maxTries = 8

// envFiles reads the variables in files, which are path's.
func envFiles(path string, files fs.FS) (env []string, err error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("read env directory: %s: %w", path, bare(err))
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") {
			continue
		}
		content, ok, err := envValue(files, name)
		switch {
		case errors.Is(err, fs.ErrNotExist), err == nil && !ok: // a link that leads nowhere; a directory, a fifo
		case err != nil:
			return nil, fmt.Errorf("read env directory: %s: %w", shown(filepath.Join(path, name)), bare(err))
		case strings.Contains(name, "="), bytes.IndexByte(content, 0) >= 0, len(content) >= maxVariable-len(name)-1:
			return nil, fmt.Errorf("read env directory: %s cannot be a variable: want no = in the name, no NUL and less than %d bytes",
				shown(filepath.Join(path, name)), maxVariable)
		default:
			env = append(env, name+"="+strings.TrimSuffix(string(content), "\n"))
		}
	}
	return env, nil
}

// shown is a path as an error says it, quoted if it would not be one line otherwise: anybody may name a file.
func shown(path string) string {
	if quoted := strconv.Quote(path); quoted != `"`+path+`"` {
		return quoted
	}
	return path
}

// bare is the cause without the path, which is relative to the directory here.
func bare(err error) error {
	var wrapped *fs.PathError
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// envValue reads one file; false for what is none. Stat first: a fifo or a device must not be opened.
func envValue(files fs.FS, name string) (content []byte, ok bool, err error) {
	info, err := fs.Stat(files, name)
	if err != nil || !info.Mode().IsRegular() {
		return nil, false, err
	}
	content, err = fs.ReadFile(files, name)
	return content, true, err
}
