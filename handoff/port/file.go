package port

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A file is the name of one generation's unix socket: a hard link to the inode that bind(2) made, beside the port's
// path. It stays when the path is renamed over, so that the switch can turn back to it and probes can reach it alone.
type file struct {
	path string // the port's
	name string // this generation's own; empty once it has been removed
	ino  uint64
	dev  uint64

	owner *Owner // with whose rights its names are changed; nil = this process's
}

// mark stands between a port's path and the generation in the names of its sockets.
const mark = ".holdfast-"

// bindFile binds fd to a name for generation gen beside path. mode, if not 0, are its permissions; they are set before
// the socket listens, so nobody gets in with others.
func bindFile(fd int, path string, gen int, mode fs.FileMode) (*file, error) {
	f := &file{path: path, name: fmt.Sprintf("%s%s%d-%s", path, mark, gen, rand.Text()[:6])}
	err := withAddress(f.name, func(addr string) error { return unix.Bind(fd, &unix.SockaddrUnix{Name: addr}) })
	if errors.Is(err, unix.ENAMETOOLONG) {
		f.name = filepath.Join(filepath.Dir(path), filepath.Base(f.name[len(path):]))
		err = withAddress(f.name, func(addr string) error { return unix.Bind(fd, &unix.SockaddrUnix{Name: addr}) })
	}
	if err != nil {
		return nil, fmt.Errorf("bind %s: %w", f.name, err)
	}
	if mode != 0 {
		if err := unix.Chmod(f.name, uint32(mode.Perm())); err != nil {
			f.remove()
			return nil, fmt.Errorf("change mode of %s: %w", f.name, err)
		}
	}
	var stat unix.Stat_t
	if err := unix.Lstat(f.name, &stat); err != nil {
		f.remove()
		return nil, fmt.Errorf("stat %s: %w", f.name, err)
	}
	f.ino, f.dev = stat.Ino, stat.Dev
	return f, nil
}

// withAddress calls do with a form of name that fits into a sockaddr_un; a long one goes through a descriptor of its
// directory, which is open only meanwhile.
func withAddress(name string, do func(addr string) error) error {
	if len(name) <= maxPath {
		return do(name)
	}
	dir, err := unix.Open(filepath.Dir(name), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	addr := "/proc/self/fd/" + strconv.Itoa(dir) + "/" + filepath.Base(name)
	if len(addr) > maxPath {
		return unix.ENAMETOOLONG
	}
	return do(addr)
}

// publish makes path lead to this socket, in one rename(2).
func (f *file) publish() error { return f.owner.as(f.publishNow) }

func (f *file) publishNow() error {
	if f.current() {
		return nil
	}
	next := f.name + "~"
	_ = unix.Unlink(next)
	if err := unix.Link(f.name, next); err != nil {
		return fmt.Errorf("link %s: %w", f.name, err)
	}
	if err := unix.Rename(next, f.path); err != nil {
		_ = unix.Unlink(next)
		return fmt.Errorf("rename %s to %s: %w", next, f.path, err)
	}
	return nil
}

// current says whether the port's path leads to this socket.
func (f *file) current() bool {
	var stat unix.Stat_t
	return unix.Lstat(f.path, &stat) == nil && stat.Ino == f.ino && stat.Dev == f.dev
}

// like gives the socket the owner and the permissions of the one at path, as far as it may: the program has set them
// there, if it has, and will again by the path, which does not lead to this socket yet.
func (f *file) like(path string) {
	_ = f.owner.as(func() error {
		var stat unix.Stat_t
		if unix.Lstat(path, &stat) == nil && f.name != "" {
			_ = unix.Lchown(f.name, int(stat.Uid), int(stat.Gid))
			_ = unix.Chmod(f.name, stat.Mode&0o777)
		}
		return nil
	})
}

// remove takes the generation's own name away. The port's path stays.
func (f *file) remove() {
	if f.name != "" {
		_ = f.owner.as(func() error { return unix.Unlink(f.name) })
		f.name = ""
	}
}

// unpublish takes the port's path away if it leads to this socket.
func (f *file) unpublish() {
	_ = f.owner.as(func() error {
		if f.current() {
			return unix.Unlink(f.path)
		}
		return nil
	})
}

// freePath makes sure that nobody listens on path, and removes what sockets of an earlier holdfast left beside it. A
// socket at path to which nobody listens is left for publish to replace.
func freePath(path string) error {
	var stat unix.Stat_t
	switch err := unix.Lstat(path, &stat); {
	case errors.Is(err, unix.ENOENT):
	case err != nil:
		return fmt.Errorf("stat %s: %w", path, err)
	case stat.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return fmt.Errorf("bind %s: %w", path, errNotSocket)
	case !stale(path):
		return fmt.Errorf("bind %s: %w", path, unix.EADDRINUSE)
	}
	removeStale(path)
	return nil
}

// removeStale removes the sockets beside path that bear the names of generations and are dead: a holdfast that was
// killed could not, and in a volume they outlive the container.
func removeStale(path string) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return
	}
	for _, entry := range entries {
		name := filepath.Join(filepath.Dir(path), entry.Name())
		if entry.Type() == fs.ModeSocket && strings.HasPrefix(name, path+mark) && stale(name) {
			_ = unix.Unlink(name)
		}
	}
}

// stale says whether the socket at name is dead: a connection to it is refused (unix(7)).
func stale(name string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	err = withAddress(name, func(addr string) error { return unix.Connect(fd, &unix.SockaddrUnix{Name: addr}) })
	return errors.Is(err, unix.ECONNREFUSED)
}
