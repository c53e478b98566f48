package takeover

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights are those of a calling thread: whatever the holder does in its place it has to do with them, and not with its
// own. A root that binds a port or makes a path for a program that has given up being root would else be its deputy for
// what the kernel refuses it: ports below 1024, other people's directories, options that need a capability.
type Rights struct {
	who  identity
	mine bool // they are this process's own
}

// rights are what the ids alone do not say.
type rights struct {
	groups []int
	caps   uint64 // effective; none of another user namespace
}

// Rights reads them (proc_pid_status(5)).
func (c *Call) Rights() (Rights, error) {
	r, err := c.rights()
	if err := c.checked(err); err != nil {
		return Rights{}, fmt.Errorf("find the rights of thread %d: %w", c.PID, err)
	}
	return r, nil
}

func (c *Call) rights() (r Rights, err error) {
	if c.PID <= 0 {
		return r, errForeign
	}
	status, err := c.status()
	if err != nil {
		return r, err
	}
	its, err := parseRightsOf(status)
	if err != nil {
		return r, err
	}
	if foreign, err := c.foreignUser(); foreign || err != nil {
		its.rights.caps = 0 // they do not count here
	}
	own, err := c.l.rights.get(ownRights)
	if err != nil {
		return r, err
	}
	r.who = its
	r.mine = its.uid == own.uid && its.gid == own.gid && own.rights.caps&^its.rights.caps == 0
	return r, nil
}

// foreignUser says whether the target is in another user namespace. Not to be allowed to know is an error.
func (c *Call) foreignUser() (foreign bool, err error) {
	err = c.asTarget(func() error {
		its, err := namespace(procPath(c.PID, "ns/user"))
		if err != nil {
			return err
		}
		own, err := c.l.user.get(func() ([2]uint64, error) { return namespace("/proc/self/ns/user") })
		foreign = its != own
		return err
	})
	return foreign, err
}

// ownRights are those of this process, which nothing changes but for the threads of as, and there only for a moment.
func ownRights() (who identity, err error) {
	b, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return who, err
	}
	return parseRightsOf(b)
}

// parseRightsOf reads the ids by which files are judged, the groups and the effective capabilities.
func parseRightsOf(status []byte) (who identity, err error) {
	if who.uid, err = number(status, "Uid", 3, 10); err != nil {
		return who, err
	}
	if who.gid, err = number(status, "Gid", 3, 10); err != nil {
		return who, err
	}
	who.rights = &rights{}
	seen := 0
	for line := range bytes.Lines(status) {
		key, value, _ := strings.Cut(string(line), ":")
		switch value = strings.TrimSpace(value); key {
		case "CapEff":
			seen++
			if who.rights.caps, err = strconv.ParseUint(value, 16, 64); err != nil {
				return who, err
			}
		case "Groups":
			seen++
			for _, text := range strings.Fields(value) {
				n, err := strconv.ParseUint(text, 10, 32)
				if err != nil {
					return who, err
				}
				who.rights.groups = append(who.rights.groups, int(n))
			}
		}
	}
	if seen != 2 {
		return who, fmt.Errorf("%w: CapEff and Groups", errStatus)
	}
	return who, nil
}

// Do calls f with these rights: on this thread where they are this process's own, else on another, which is then made what
// it was. f must start nothing that has to have them for longer. The error is f's, or that the rights can't be had.
func (r Rights) Do(f func() error) error {
	if r.mine {
		return f()
	}
	return as(r.who, f)
}

// memory is what a thread had before its rights were changed; nil = they were not, but for the ids.
type memory struct {
	groups []int
	caps   [2]unix.CapUserData
}

func (r *rights) remember() (m *memory, err error) {
	if r == nil {
		return nil, nil
	}
	m = &memory{}
	if m.groups, err = unix.Getgroups(); err != nil {
		return nil, err
	}
	return m, unix.Capget(capHeader(), &m.caps[0])
}

// join changes the supplementary groups, lower the effective capabilities to those that r has.
func (r *rights) join() error {
	if r == nil {
		return nil
	}
	return setGroups(r.groups)
}

func (r *rights) lower() error {
	if r == nil {
		return nil
	}
	var now [2]unix.CapUserData
	if err := unix.Capget(capHeader(), &now[0]); err != nil {
		return err
	}
	now[0].Effective &= uint32(r.caps)
	now[1].Effective &= uint32(r.caps >> 32)
	return unix.Capset(capHeader(), &now[0])
}

func (m *memory) regroup() error {
	if m == nil {
		return nil
	}
	return setGroups(m.groups)
}

func (m *memory) capable() error {
	if m == nil {
		return nil
	}
	return unix.Capset(capHeader(), &m.caps[0])
}

// capHeader is for the calling thread (capget(2)).
func capHeader() *unix.CapUserHeader {
	return &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
}

// setGroups changes those of the calling thread alone, as the system call does; Go's own Setgroups would change them all.
func setGroups(list []int) error {
	ids := make([]uint32, len(list)+1) // never empty, so that there is an address
	for i, id := range list {
		ids[i] = uint32(id)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(list)), uintptr(unsafe.Pointer(&ids[0])), 0); errno != 0 {
		return errno
	}
	return nil
}
