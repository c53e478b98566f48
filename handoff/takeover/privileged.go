package takeover

import "golang.org/x/sys/unix"

// loss is why a program is not put behind a filter, and what would help.
const loss = "the program has file capabilities or is setuid, which no_new_privs would take from it, and without CAP_SYS_ADMIN " +
	"the filter needs that: allow it what it needs in another way (net.ipv4.ip_unprivileged_port_start for its ports), " +
	"and take them from the file"

// raises says whether execve(2) of the file raises the privileges of this process, which no_new_privs prevents
// (execve(2), capabilities(7)). Root has them all, as far as it may.
func raises(path string) bool {
	var stat unix.Stat_t
	if path == "" || unix.Geteuid() == 0 || unix.Stat(path, &stat) != nil {
		return false
	}
	if n, err := unix.Getxattr(path, "security.capability", nil); err == nil && n > 0 {
		return true
	}
	return stat.Mode&unix.S_ISUID != 0 && int(stat.Uid) != unix.Geteuid() ||
		stat.Mode&unix.S_ISGID != 0 && int(stat.Gid) != unix.Getegid()
}
