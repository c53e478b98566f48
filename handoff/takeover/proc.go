package takeover

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// procPath is a file of a thread. /proc has an entry for every thread, though it lists only the first of each process.
func procPath(tid int, name string) string { return "/proc/" + strconv.Itoa(tid) + "/" + name }

// An identity is whom the kernel compares with: the effective ids. It wants the real and saved ones to be the same.
type identity struct {
	uid, gid int
	rights   *rights // nil = those of this process, as far as the ids leave it any
}

var errStatus = errors.New("no such line in /proc/TID/status")

func identify(tid int) (who identity, err error) {
	if who.uid, err = statusNumber(tid, "Uid", 1); err != nil {
		return who, err
	}
	who.gid, err = statusNumber(tid, "Gid", 1)
	return who, err
}

// Owner is whose files, and sockets, the calling thread makes: its uid and gid in the file-system's eyes.
func (c *Call) Owner() (uid, gid int, err error) {
	if c.PID <= 0 {
		return -1, -1, errForeign
	}
	b, err := c.status()
	if err == nil {
		uid, err = number(b, "Uid", 3, 10)
	}
	if err == nil {
		gid, err = number(b, "Gid", 3, 10)
	}
	if err := c.checked(err); err != nil {
		return -1, -1, fmt.Errorf("find owner of thread %d: %w", c.PID, err)
	}
	return uid, gid, nil
}

// Process is the process of the calling thread, in this process's namespace.
func (c *Call) Process() (int, error) {
	if c.PID <= 0 {
		return 0, errForeign
	}
	b, err := c.status()
	pid := 0
	if err == nil {
		pid, err = number(b, "Tgid", 0, 10)
	}
	if err := c.checked(err); err != nil {
		return 0, fmt.Errorf("find process of thread %d: %w", c.PID, err)
	}
	return pid, nil
}

// statusNumber is the number in the given column of a line of /proc/TID/status, which everyone may read.
func statusNumber(tid int, key string, column int) (int, error) {
	b, err := os.ReadFile(procPath(tid, "status"))
	if err != nil {
		return 0, err
	}
	return number(b, key, column, 10)
}

// number finds the number in the given column behind "key:".
func number(b []byte, key string, column, base int) (int, error) {
	for line := range bytes.Lines(b) {
		name, rest, ok := strings.Cut(string(line), ":")
		if !ok || name != key {
			continue
		}
		if fields := strings.Fields(rest); len(fields) > column {
			n, err := strconv.ParseInt(fields[column], base, 64)
			return int(n), err
		}
	}
	return 0, fmt.Errorf("%w: %s", errStatus, key)
}

// known is a value that does not change, and is read when it is first asked for. That it could not be read may pass.
type known[T any] struct {
	mu    sync.Mutex
	read  bool
	value T
}

func (k *known[T]) get(read func() (T, error)) (value T, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.read {
		return k.value, nil
	}
	if value, err = read(); err == nil {
		k.read, k.value = true, value
	}
	return value, err
}

// noSocket says what it means that /proc/TID/fd has no entry.
func noSocket(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return unix.EBADF
	}
	return err
}
