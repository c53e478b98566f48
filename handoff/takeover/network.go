package takeover

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ForeignNetwork says whether the target is in another network namespace than this process, where a socket of this
// process's would be one on other addresses, and of no use.
func (c *Call) ForeignNetwork() (foreign bool, err error) {
	if c.PID <= 0 {
		return true, fmt.Errorf("look at the network namespace: %w", errForeign)
	}
	err = c.asTarget(func() error {
		its, err := namespace(procPath(c.PID, "ns/net"))
		foreign = its != c.l.network
		return err
	})
	if err := c.checked(err); err != nil {
		return true, fmt.Errorf("look at the network namespace: %w", err)
	}
	return foreign, nil
}

// namespace names the namespace behind a link in /proc/PID/ns.
func namespace(link string) (id [2]uint64, err error) {
	var stat unix.Stat_t
	if err := unix.Stat(link, &stat); err != nil {
		return id, err
	}
	return [2]uint64{uint64(stat.Dev), stat.Ino}, nil
}
