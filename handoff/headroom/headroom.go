// Package headroom finds out whether the memory limits of this process's cgroups leave room for a second generation.
//
// It decides nothing and keeps nothing: each call reads what the kernel says now. What it cannot read counts as no limit,
// since a handoff must not fail for want of a file.
package headroom

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Room is what a cgroup's limit leaves. All are bytes.
type Room struct {
	Limit  int64
	Left   int64  // what can be had before something is killed: page cache and the like give way; may be negative
	Cgroup string // the directory of the cgroup
}

// Find returns the least room that the cgroup of this process and those above it leave; false = none of them has a limit.
// Root is the file system's, "/" but for tests. Version 1 and 2 are known (kernel docs, cgroup-v1/memory, cgroup-v2).
func Find(root string) (least Room, limited bool) {
	for _, h := range hierarchies(root) {
		for dir := h.dir; ; dir = filepath.Dir(dir) {
			if room, ok := h.files.room(root, dir); ok && (!limited || room.Left < least.Left) {
				least, limited = room, true
			}
			if dir == h.top || len(dir) <= len(h.top) {
				break
			}
		}
	}
	return least, limited
}

// hierarchy is where this process is in a tree of cgroups that counts memory.
type hierarchy struct {
	top, dir string // the mount point, and this process's own directory in it
	files    files
}

// files are the names under which a version of cgroups has what is looked for.
type files struct {
	limit, usage string
	reclaimable  []string // fields of memory.stat
}

func version1() files {
	return files{"memory.limit_in_bytes", "memory.usage_in_bytes", []string{"total_inactive_file", "total_active_file"}}
}

func version2() files {
	return files{"memory.max", "memory.current", []string{"inactive_file", "active_file", "slab_reclaimable"}}
}

// unlimited is what version 1 says for no limit, about: the largest multiple of the page's size.
const unlimited = math.MaxInt64 - 1<<20

func (f files) room(root, dir string) (Room, bool) {
	limit, ok := number(filepath.Join(root, dir, f.limit)) // "max" is no number
	if !ok || limit >= unlimited {
		return Room{}, false
	}
	usage, ok := number(filepath.Join(root, dir, f.usage))
	if !ok {
		return Room{}, false
	}
	left := limit - usage
	stat, err := fields(filepath.Join(root, dir, "memory.stat"))
	if err == nil {
		for _, name := range f.reclaimable {
			left += stat[name]
		}
	}
	return Room{Limit: limit, Left: left, Cgroup: dir}, true
}

// hierarchies finds them by cgroups(7): /proc/self/cgroup says which cgroup this process is in, seen from the root of its
// cgroup namespace, and mountinfo where that tree is mounted, and from which of its directories on.
func hierarchies(root string) []hierarchy {
	of := map[bool]string{} // the path, by whether it is of version 2
	_ = eachLine(filepath.Join(root, "/proc/self/cgroup"), func(line string) {
		parts := strings.SplitN(line, ":", 3)
		switch {
		case len(parts) < 3:
		case parts[0] == "0" && parts[1] == "":
			of[true] = parts[2]
		case slices.Contains(strings.Split(parts[1], ","), "memory"):
			of[false] = parts[2]
		}
	})
	var all []hierarchy
	_ = eachLine(filepath.Join(root, "/proc/self/mountinfo"), func(line string) {
		before, behind, ok := strings.Cut(line, " - ")
		mount, system := strings.Fields(before), strings.Fields(behind)
		if !ok || len(mount) < 5 || len(system) < 3 {
			return
		}
		two := system[0] == "cgroup2"
		if !two && (system[0] != "cgroup" || !slices.Contains(strings.Split(system[2], ","), "memory")) {
			return
		}
		path, ok := of[two]
		if !ok {
			return
		}
		h := hierarchy{top: mount[4], dir: filepath.Join(mount[4], below(path, mount[3])), files: version1()}
		if two {
			h.files = version2()
		}
		if _, err := os.Stat(filepath.Join(root, h.dir)); err != nil {
			h.dir = h.top
		}
		all = append(all, h)
	})
	return all
}

// below returns path as it is seen from a mount of the tree from the directory from on. A path that is not in there (in
// a container with the host's view of the cgroup, but its own mount) is the mount itself.
func below(path, from string) string {
	if from == "/" {
		from = ""
	}
	rest, ok := strings.CutPrefix(path, from)
	if !ok || rest != "" && rest[0] != '/' || strings.Contains(rest, "..") {
		return ""
	}
	return rest
}

// Use returns how many bytes the processes hold that are theirs and not the page cache's: each its share of what several
// of them have in common, where the kernel tells (smaps_rollup, proc_pid_smaps(5)), else as if nothing was (status).
// Those that have ended count nothing.
func Use(root string, pids []int) (bytes int64, err error) {
	for _, pid := range pids {
		dir := filepath.Join(root, "/proc", strconv.Itoa(pid))
		has, err := kilobytes(filepath.Join(dir, "smaps_rollup"), "Pss_Anon", "Pss_Shmem")
		if err != nil {
			has, err = kilobytes(filepath.Join(dir, "status"), "RssAnon", "RssShmem")
		}
		switch {
		case err == nil:
			bytes += has << 10
		case !errors.Is(err, fs.ErrNotExist):
			return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
		}
	}
	return bytes, nil
}

// errNoField says that a file has not what was looked for: another version of the kernel.
var errNoField = errors.New("no such field")

func kilobytes(path string, names ...string) (sum int64, err error) {
	values, err := fields(path)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		v, ok := values[name]
		if !ok {
			return 0, fmt.Errorf("%s: %s: %w", path, name, errNoField)
		}
		sum += v
	}
	return sum, nil
}

// fields reads lines of a name and a number, with or without a colon.
func fields(path string) (map[string]int64, error) {
	values := map[string]int64{}
	err := eachLine(path, func(line string) {
		if f := strings.Fields(line); len(f) >= 2 {
			if n, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				values[strings.TrimSuffix(f[0], ":")] = n
			}
		}
	})
	return values, err
}

func number(path string) (int64, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return int64(min(n, math.MaxInt64)), err == nil
}

func eachLine(path string, do func(string)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20) // an overlay's options list all its layers
	for lines.Scan() {
		do(lines.Text())
	}
	return lines.Err()
}
