package takeover

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

var (
	// ErrElsewhere: the target's root directory is not this process's, so that a path means another file there.
	ErrElsewhere = errors.New("the program has another root directory")
	errPath      = errors.New("no path of a file")
)

// Absolute is the path that name means for the target, clean and absolute: it may be relative to the target's working
// directory, or to its descriptor at where the system call takes one (at is unix.AT_FDCWD where it does not). Symbolic
// links in it are not followed.
func (c *Call) Absolute(at int, name string) (string, error) {
	if c.PID <= 0 {
		return "", errForeign
	}
	if name == "" {
		return "", errPath
	}
	var root, directory string
	err := c.asTarget(func() (err error) {
		if root, err = os.Readlink(procPath(c.PID, "root")); err != nil || filepath.IsAbs(name) {
			return err
		}
		link := "cwd"
		if at != unix.AT_FDCWD {
			link = "fd/" + strconv.Itoa(at)
		}
		directory, err = os.Readlink(procPath(c.PID, link))
		return err
	})
	switch err := c.checked(err); {
	case err != nil:
		return "", fmt.Errorf("resolve %q: %w", name, err)
	case root != "/": // chrooted, or in a mount namespace of its own
		return "", fmt.Errorf("resolve %q: %w", name, ErrElsewhere)
	case !filepath.IsAbs(name) && !filepath.IsAbs(directory): // a directory outside of its root, or no directory at all
		return "", fmt.Errorf("resolve %q: %w", name, errPath)
	}
	return filepath.Clean(filepath.Join(directory, name)), nil
}

// Path reads what an Unlink is to remove, or a Rename to rename: the name as the target gave it, and the descriptor that it
// may be relative to.
func (c *Call) Path() (at int, name string, err error) { return c.path(0) }

// NewPath reads to what a Rename is to rename.
func (c *Call) NewPath() (at int, name string, err error) { return c.path(1) }

// path reads the path of that number: each comes with a descriptor before it, or none does.
func (c *Call) path(n int) (at int, name string, err error) {
	at, pointer := int(int32(c.Args[2*n])), c.Args[2*n+1]
	if c.byName {
		at, pointer = unix.AT_FDCWD, c.Args[n]
	}
	name, err = c.text(pointer)
	if err != nil {
		return at, "", fmt.Errorf("read path: %w", err)
	}
	return at, name, nil
}

// text reads a string that ends in NUL, of at most PATH_MAX bytes. It stops at the end of a page: what comes behind the
// string may not be there to read.
func (c *Call) text(pointer uint64) (string, error) {
	const page = 4096 // or more, of which this is a part
	var all []byte
	for len(all) < unix.PathMax {
		b, err := c.memory(pointer, int(page-pointer%page))
		if err != nil {
			return "", err
		}
		if i := bytes.IndexByte(b, 0); i >= 0 {
			return string(append(all, b[:i]...)), nil
		}
		all = append(all, b...)
		pointer += uint64(len(b))
	}
	return "", unix.ENAMETOOLONG
}
