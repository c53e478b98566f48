package takeover

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// maxDescriptors bounds how many descriptors of the target InEventpoll looks at. A server binds early, when it has few.
const maxDescriptors = 4096

// InEventpoll says whether one of the target's epoll sets has its FD, whose inode is known from Socket. A set keeps the
// description that was registered, so that it would hear nothing of a replacement (epoll(7)).
func (c *Call) InEventpoll(inode uint64) (in bool, err error) {
	if c.PID <= 0 {
		return false, fmt.Errorf("look through the epoll sets: %w", errForeign)
	}
	err = c.asTarget(func() (err error) {
		in, err = inEventpoll(c.PID, c.FD, inode)
		return err
	})
	if err := c.checked(err); err != nil {
		return false, fmt.Errorf("look through the epoll sets: %w", err)
	}
	return in, nil
}

func inEventpoll(tid, fd int, inode uint64) (bool, error) {
	dir, err := os.Open(procPath(tid, "fd"))
	if err != nil {
		return false, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxDescriptors)
	if err != nil && err != io.EOF {
		return false, err
	}
	for _, name := range names {
		target, err := os.Readlink(procPath(tid, "fd/"+name))
		if os.IsPermission(err) {
			return false, err
		}
		if target != "anon_inode:[eventpoll]" {
			continue
		}
		b, err := os.ReadFile(procPath(tid, "fdinfo/"+name))
		if err == nil && watches(b, fd, inode) {
			return true, nil
		}
	}
	return false, nil
}

// watches reads the fdinfo of an epoll set: a line for each descriptor in it, "tfd: %8d events: %8x data: %16llx
// pos:%lli ino:%lx sdev:%x" (ep_show_fdinfo in fs/eventpoll.c; the inode since Linux 4.13). The number is that under
// which it was registered, and may be another's by now.
func watches(fdinfo []byte, fd int, inode uint64) bool {
	for line := range bytes.Lines(fdinfo) {
		text, ok := strings.CutPrefix(string(line), "tfd:")
		if !ok {
			continue
		}
		fields := strings.Fields(text)
		if len(fields) == 0 || fields[0] != strconv.Itoa(fd) {
			continue
		}
		if _, hex, ok := strings.Cut(text, " ino:"); ok {
			if f := strings.Fields(hex); len(f) > 0 {
				n, err := strconv.ParseUint(f[0], 16, 64)
				return err == nil && n == inode
			}
		}
		return true
	}
	return false
}
