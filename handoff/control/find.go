package control

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// ErrNone is that no holdfast listens, in this PID namespace or with the PID that was asked for.
var ErrNone = errors.New("no holdfast listens; run this in its container (kubectl exec, docker exec)")

// find takes PID 1 if that is a holdfast. Otherwise, with a shared PID namespace or another init above it, the only one
// there is.
func (s space) find() (*Client, error) {
	c, err := s.dial(1)
	if !errors.Is(err, ErrNone) && !isImposter(err) {
		return c, err
	}
	var found []*Client
	for _, pid := range s.listening() {
		// A name that somebody else took is passed over, as is one that has just gone.
		if c, err := s.dial(pid); err == nil {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("find holdfast: %w", err)
	case 1:
		return found[0], nil
	default:
		return nil, fmt.Errorf("find holdfast: %d run here: say which with --pid %s", len(found), pids(found))
	}
}

func pids(clients []*Client) string {
	var all []string
	for _, c := range clients {
		all = append(all, strconv.Itoa(c.pid))
	}
	return strings.Join(all, ", --pid ")
}

// listening returns the PIDs in the names of the control sockets of this PID namespace. Without /proc there are none to
// be seen.
func (s space) listening() []int {
	table, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return nil
	}
	return parse(table, string(s))
}

// parse picks the listening sockets (the flag is __SO_ACCEPTCON) out of the table, since accepted connections bear the
// name of their listener too.
func parse(table []byte, prefix string) []int {
	var found []int
	lines := bufio.NewScanner(bytes.NewReader(table))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 8 || fields[3] != "00010000" {
			continue
		}
		suffix, ok := strings.CutPrefix(fields[7], prefix)
		if pid, err := strconv.Atoi(suffix); ok && err == nil && pid > 0 {
			found = append(found, pid)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}
