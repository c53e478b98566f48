package trigger

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is what one line of mountinfo says of interest.
type mount struct{ root, point string }

// mountWarnings says which targets will never change, or not in the way that one expects.
func mountWarnings(targets []string) []string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	mounts := parseMounts(f)

	var texts []string
	for _, target := range targets {
		at := realPath(target)
		if info, err := os.Stat(at); err == nil {
			if text := mountWarning(mounts[at], info.IsDir()); text != "" {
				texts = append(texts, target+text)
			}
		}
		for point, m := range mounts {
			// In a directory that is watched as a whole, the files that the kubelet mounts of itself (/etc/hosts) are no news.
			if below, inside := strings.CutPrefix(point, at+"/"); inside {
				if text := mountWarning(m, true); text != "" {
					texts = append(texts, filepath.Join(target, below)+text)
				}
			}
		}
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

// realPath resolves the directory that path stands in and path itself, as far as they exist.
func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

func mountWarning(m mount, dir bool) string {
	switch {
	case m.point == "":
		return ""
	case strings.Contains(m.root, "/.."):
		// The kubelet's timestamped directory is in the root: what is mounted is one update of a volume, not the volume.
		return " is a subPath mount: the kubelet never updates it"
	case strings.HasSuffix(m.root, "//deleted"):
		return " is a mount of something that has been removed or replaced where it came from: it never changes again"
	case !dir:
		return " is a mount of a single file: what replaces that by rename is never seen"
	default:
		return ""
	}
}

// parseMounts reads mountinfo (proc_pid_mountinfo(5)); of several mounts on one point the last is the one on top.
func parseMounts(in io.Reader) map[string]mount {
	mounts := map[string]mount{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20) // an overlay's options list all its layers
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 5 {
			m := mount{root: unescape(fields[3]), point: unescape(fields[4])}
			mounts[m.point] = m
		}
	}
	return mounts
}

// unescape undoes the kernel's \040 for blanks and the like.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// remoteKind names the file system of dir if its content can be changed by somebody whom this kernel does not see; ""
// otherwise. The kubelet's volumes are tmpfs or the node's own disk, but a Secret may come through a CSI driver's FUSE.
func remoteKind(dir string) string {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return ""
	}
	switch uint32(st.Type) {
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC:
		return "smb"
	case unix.FUSE_SUPER_MAGIC:
		return "fuse"
	case unix.V9FS_MAGIC:
		return "9p"
	case unix.CEPH_SUPER_MAGIC:
		return "ceph"
	case unix.AFS_SUPER_MAGIC:
		return "afs"
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC:
		return "a file system that the kernel makes up"
	default:
		return ""
	}
}
