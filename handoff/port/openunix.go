package port

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// openUnix makes generation gen's socket of a unix port. If none is live, the port's path leads to it at once.
func (p *Port) openUnix(gen, live int, own Own) error {
	if live == 0 {
		p.mu.Lock()
		owner := p.owner
		p.mu.Unlock()
		if err := owner.as(func() error { return freePath(p.spec.Path) }); err != nil {
			return err
		}
	}
	s, err := p.unixSocket(gen, own)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if live == 0 {
		err = p.publishFirst(s)
	}
	if err != nil {
		s.file.remove()
		_ = unix.Close(s.fd)
		return err
	}
	p.gens[gen] = []*socket{s}
	if live == 0 {
		p.live = gen
	}
	return nil
}

// unixSocket makes a socket that listens on generation gen's own name, of the program's own if there is one.
func (p *Port) unixSocket(gen int, own Own) (*socket, error) {
	fd, err := p.unixFD(own)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	owner := p.owner
	p.mu.Unlock()
	var f *file
	err = owner.as(func() (err error) {
		if f, err = bindFile(fd, p.spec.Path, gen, p.spec.Mode); err == nil && owner != nil {
			_ = unix.Lchown(f.name, owner.UID, owner.GID)
			_ = unix.Chmod(f.name, 0o777&^owner.Umask)
		}
		return err
	})
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	f.owner = owner
	if err := unix.Listen(fd, p.spec.backlog()); err != nil {
		f.remove()
		_ = unix.Close(fd)
		return nil, fmt.Errorf("listen on %s: %w", f.name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.newSocket(fd)
	s.file, f.path = f, p.path
	return s, nil
}

// unixFD duplicates the program's own socket, or makes one in its place.
func (p *Port) unixFD(own Own) (fd int, err error) {
	if own.FD >= 0 {
		if fd, err = unix.FcntlInt(uintptr(own.FD), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return -1, fmt.Errorf("duplicate socket: %w", err)
		}
		return fd, nil
	}
	if fd, err = unix.Socket(unix.AF_UNIX, kind(p.spec), 0); err != nil {
		return -1, fmt.Errorf("create socket: %w", err)
	}
	p.apply(fd, own.Options)
	return fd, nil
}

// publishFirst puts the first generation's socket at the port's path. On a file system without hard links the socket
// itself goes there, and all generations share it.
func (p *Port) publishFirst(s *socket) error {
	link := s.file.publish()
	if link == nil {
		return nil
	}
	if err := s.file.owner.as(func() error { return unix.Rename(s.file.name, p.path) }); err != nil {
		return fmt.Errorf("rename %s to %s: %w", s.file.name, p.spec.Path, err)
	}
	s.file.name = ""
	p.fallBack(link)
	return nil
}
