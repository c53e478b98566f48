package handoff

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/handoff/port"
	"holdfast/handoff/takeover"
	"holdfast/reaper"
)

// tcpPorts returns the numbers of the held TCP ports.
func (l *Loop) tcpPorts() map[uint64]bool {
	ports := map[uint64]bool{}
	for _, p := range l.ports {
		if spec := p.Spec(); spec.Network == "tcp" {
			ports[uint64(spec.Addr.Port())] = true
		}
	}
	return ports
}

// connections counts the established TCP connections to ports that the processes have open. Whose they are it reads in
// /proc, proc_pid_fd(5).
func connections(ports map[uint64]bool, processes []reaper.Process) (int, error) {
	inodes, err := connected(ports, port.Established)
	if err != nil {
		return 0, fmt.Errorf("count connections: %w", err)
	}
	if len(inodes) == 0 {
		return 0, nil
	}
	n := 0
	for _, p := range processes {
		has, err := countOpen(p.PID, inodes)
		if err != nil {
			return 0, fmt.Errorf("count connections: %w", err)
		}
		n += has
	}
	return n, nil
}

// connected returns the inodes of the established connections to ports. Where the kernel may not be asked for them (gVisor,
// a seccomp profile without netlink) it reads of all that there are, proc_pid_net(5), which takes some five times as long.
func connected(ports map[uint64]bool, ask func(map[uint64]bool) ([]uint64, error)) (map[string]bool, error) {
	switch told, err := ask(ports); {
	case err == nil:
		return inodeSet(told), nil
	case reaper.Short(err):
		return nil, err
	}
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		if err := established(table, ports, inodes); err != nil && !os.IsNotExist(err) {
			return nil, err
		}
	}
	return inodes, nil
}

// established adds the inodes of a table's established connections to ports.
func established(table string, ports map[uint64]bool, inodes map[string]bool) error {
	f, err := os.Open(table)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if inode, ok := parseConnection(lines.Text(), ports); ok {
			inodes[inode] = true
		}
	}
	return lines.Err()
}

// parseConnection reads a line "sl local_address rem_address st … inode …", with the local address as HEX:HEXPORT.
func parseConnection(line string, ports map[uint64]bool) (inode string, ok bool) {
	const local, state, inodeAt, tcpEstablished, tcpCloseWait = 1, 3, 9, "01", "08"
	fields := strings.Fields(line)
	// A client that has sent its last (CLOSE_WAIT) may still wait for the answer.
	if len(fields) <= inodeAt || fields[state] != tcpEstablished && fields[state] != tcpCloseWait {
		return "", false
	}
	_, hex, _ := strings.Cut(fields[local], ":")
	number, err := strconv.ParseUint(hex, 16, 16)
	return fields[inodeAt], err == nil && ports[number]
}

// countOpen counts how many of the inodes a process has open. Several processes may share one: it counts for each. Not
// to be allowed to look, not even with the process's own ids (takeover.As), is an error; that it has ended is not.
func countOpen(pid int, inodes map[string]bool) (n int, err error) {
	err = takeover.As(pid, func() (err error) {
		n, err = countOpenNow(pid, inodes)
		return err
	})
	return n, err
}

func countOpenNow(pid int, inodes map[string]bool) (n int, err error) {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		if vanished(err) {
			return 0, nil
		}
		return 0, err
	}
	defer dir.Close()
	var link [64]byte
	for at := int(dir.Fd()); ; {
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			// From here, not from the root: there may be tens of thousands, and half the time goes into finding /proc/PID/fd for each.
			size, err := unix.Readlinkat(at, name, link[:])
			if os.IsPermission(err) {
				return 0, err
			}
			if inode, ok := bytes.CutPrefix(link[:max(size, 0)], []byte("socket:[")); ok && inodes[string(bytes.TrimSuffix(inode, []byte("]")))] {
				n++
			}
		}
		switch {
		case err == io.EOF, vanished(err):
			return n, nil
		case err != nil:
			return 0, err
		}
	}
}
