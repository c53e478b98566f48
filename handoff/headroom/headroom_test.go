package headroom_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/handoff/headroom"
)

const mib = 1 << 20

// tree writes files below a root of the test's own.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// group are the files of a cgroup of version 2.
func group(dir, limit, usage, stat string) map[string]string {
	return map[string]string{dir + "/memory.max": limit + "\n", dir + "/memory.current": usage + "\n", dir + "/memory.stat": stat}
}

func group1(dir, limit, usage, stat string) map[string]string {
	return map[string]string{dir + "/memory.limit_in_bytes": limit + "\n", dir + "/memory.usage_in_bytes": usage + "\n", dir + "/memory.stat": stat}
}

func join(all ...map[string]string) map[string]string {
	files := map[string]string{}
	for _, m := range all {
		maps.Copy(files, m)
	}
	return files
}

func TestFind(t *testing.T) {
	const (
		two      = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw,nsdelegate\n"
		one      = "34 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n33 31 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
		onePod   = "34 31 0:32 /kubepods/pod1/c1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
		onePod12 = "34 31 0:32 /kubepods/pod1/c12 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
		noLimit  = "9223372036854771712"
	)
	in := func(cgroup, mounts string) map[string]string {
		return map[string]string{"proc/self/cgroup": cgroup, "proc/self/mountinfo": "23 1 8:1 / / rw - ext4 /dev/root rw\n" + mounts}
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  headroom.Room
		none  bool
	}{
		"version 2, in a cgroup namespace": {
			files: join(in("0::/\n", two), group("sys/fs/cgroup", "134217728", "100663296", "anon 1\ninactive_file 1048576\nactive_file 2097152\nslab_reclaimable 4194304\n")),
			want:  headroom.Room{Limit: 128 * mib, Left: 39 * mib, Cgroup: "/sys/fs/cgroup"},
		},
		"version 2, nested: the tightest counts": {
			files: join(in("0::/a/b/c\n", two), group("sys/fs/cgroup/a/b/c", "max", "5", ""), group("sys/fs/cgroup/a/b", "104857600", "94371840", ""),
				group("sys/fs/cgroup/a", "1073741824", "104857600", ""), map[string]string{"sys/fs/cgroup/memory.stat": ""}),
			want: headroom.Room{Limit: 100 * mib, Left: 10 * mib, Cgroup: "/sys/fs/cgroup/a/b"},
		},
		"version 2, over its limit": {
			files: join(in("0::/\n", two), group("sys/fs/cgroup", "1048576", "2097152", "")),
			want:  headroom.Room{Limit: mib, Left: -mib, Cgroup: "/sys/fs/cgroup"},
		},
		"version 2, no limit": {files: join(in("0::/a\n", two), group("sys/fs/cgroup/a", "max", "5", "")), none: true},
		"version 1, on the host": {
			files: join(in("4:memory:/a\n1:cpu:/b\n0::/\n", one+two), group1("sys/fs/cgroup/memory/a", "67108864", "33554432", "inactive_file 1\ntotal_inactive_file 1048576\ntotal_active_file 1048576\n"),
				group1("sys/fs/cgroup/memory", noLimit, "33554432", "")),
			want: headroom.Room{Limit: 64 * mib, Left: 34 * mib, Cgroup: "/sys/fs/cgroup/memory/a"},
		},
		"version 1, in a container": {
			files: join(in("4:cpu,memory:/kubepods/pod1/c1\n", onePod), group1("sys/fs/cgroup/memory", "67108864", "1048576", "")),
			want:  headroom.Room{Limit: 64 * mib, Left: 63 * mib, Cgroup: "/sys/fs/cgroup/memory"},
		},
		"version 1, in a cgroup of the container's own": {
			files: join(in("4:memory:/kubepods/pod1/c1/mine\n", onePod), group1("sys/fs/cgroup/memory", noLimit, "1", ""), group1("sys/fs/cgroup/memory/mine", "2097152", "1048576", "")),
			want:  headroom.Room{Limit: 2 * mib, Left: mib, Cgroup: "/sys/fs/cgroup/memory/mine"},
		},
		"another's mount": {
			files: join(in("4:memory:/kubepods/pod1/c1\n", onePod12), group1("sys/fs/cgroup/memory", "2097152", "1048576", "")),
			want:  headroom.Room{Limit: 2 * mib, Left: mib, Cgroup: "/sys/fs/cgroup/memory"},
		},
		"outside of its namespace": {
			files: join(in("0::/../../x\n", two), group("sys/fs/cgroup", "2097152", "1048576", "")),
			want:  headroom.Room{Limit: 2 * mib, Left: mib, Cgroup: "/sys/fs/cgroup"},
		},
		"no /proc":                  {files: map[string]string{}, none: true},
		"nothing mounted":           {files: in("0::/\n", ""), none: true},
		"nonsense":                  {files: in("nonsense\n", "31 23\n - \n"), none: true},
		"a limit without its usage": {files: join(in("0::/\n", two), map[string]string{"sys/fs/cgroup/memory.max": "5\n"}), none: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, limited := headroom.Find(tree(t, c.files))
			if limited == c.none || got != c.want {
				t.Errorf("got %+v, %v, want %+v", got, limited, c.want)
			}
		})
	}
}

func TestUse(t *testing.T) {
	root := tree(t, map[string]string{
		"proc/7/smaps_rollup": "5500-7ff [rollup]\nRss: 9000 kB\nPss: 900 kB\nPss_Anon:          512 kB\nPss_File:          300 kB\nPss_Shmem:         512 kB\n",
		"proc/8/status":       "Name: old kernel\nRssAnon:\t    2048 kB\nRssFile:\t 4096 kB\nRssShmem:\t   0 kB\n",
		"proc/9/smaps_rollup": "Rss: 1 kB\n",
		"proc/9/status":       "Name: no fields\n",
	})
	for _, c := range []struct {
		pids []int
		want int64
		bad  bool
	}{
		{nil, 0, false}, {[]int{7}, mib, false}, {[]int{7, 8}, 3 * mib, false}, {[]int{7, 1000}, mib, false}, {[]int{9}, 0, true},
	} {
		if got, err := headroom.Use(root, c.pids); got != c.want || (err != nil) != c.bad {
			t.Errorf("%v: %d, %v, want %d", c.pids, got, err, c.want)
		}
	}
}

// TestUseOfARealProcess: what a process has taken for itself is counted, and the text that it has mapped is not.
func TestUseOfARealProcess(t *testing.T) {
	cmd := exec.Command("sh", "-c", `x=$(head -c 20000000 /dev/zero | tr '\0' x); echo ready; read line`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if got, err := headroom.Use("/", []int{cmd.Process.Pid}); err != nil || got < 20e6 || got > 200e6 {
		t.Errorf("%d bytes, %v, want 20 MB and more", got, err)
	}
}

// TestFindHere: whatever this machine has, it is read without complaint.
func TestFindHere(t *testing.T) {
	if room, limited := headroom.Find("/"); limited && (room.Limit <= 0 || !strings.HasPrefix(room.Cgroup, "/")) {
		t.Errorf("%+v", room)
	}
}
