package takeover

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var errForeign = errors.New("the thread is in another pid namespace")

// Sockaddr reads the address that bind(2) was given. Where it fails with anything but ErrGone, bind(2) would mostly fail
// too: Continue leaves it to the kernel to say how.
func (c *Call) Sockaddr() (Sockaddr, error) {
	length := int32(c.Args[2]) // an int for the kernel, whatever the upper half holds
	if length < familyLength || length > maxLength {
		return Sockaddr{}, fmt.Errorf("read address of %d bytes: %w", length, errAddrLength)
	}
	b, err := c.memory(c.Args[1], int(length))
	if err != nil {
		return Sockaddr{}, fmt.Errorf("read address: %w", err)
	}
	return ParseSockaddr(b)
}

func nativeUint32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

// memory reads length bytes of the target's memory.
func (c *Call) memory(at uint64, length int) ([]byte, error) {
	if c.PID <= 0 {
		return nil, errForeign
	}
	b := make([]byte, length)
	err := c.read(at, b)
	if err := c.checked(err); err != nil {
		return nil, err
	}
	return b, nil
}

// read fills b. The ways differ in what forbids them: process_vm_readv(2) goes by the real uid and by seccomp profiles
// (containerd's wanted CAP_SYS_PTRACE for it), /proc/TID/mem by the file-system uid, which can be changed for one thread.
func (c *Call) read(at uint64, b []byte) error {
	err := readv(c.PID, at, b)
	if !refused(err) {
		return err
	}
	return c.asTarget(func() error { return pread(c.PID, at, b) })
}

func readv(tid int, at uint64, b []byte) error {
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(len(b))
	n, err := unix.ProcessVMReadv(tid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(b)}}, 0)
	if err == nil && n < len(b) {
		return unix.EFAULT
	}
	return err
}

func pread(tid int, at uint64, b []byte) error {
	fd, err := unix.Open(procPath(tid, "mem"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// An address beyond the signed range is one of the kernel's, and fails as every bad one does here, with EIO.
	n, err := unix.Pread(fd, b, int64(at))
	if err == unix.EIO || err == unix.EINVAL || err == nil && n < len(b) {
		return unix.EFAULT
	}
	return err
}

// refused says whether another way may succeed.
func refused(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS)
}
