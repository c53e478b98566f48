package harness

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Container has holdfast run in a container of runc's, as its first process. The root is this machine's /usr and /etc,
// read-only; the network is that of the tests, so that only loopback is used.
type Container struct {
	UID, GID     int
	Capabilities []string // bounding, permitted and effective, as Docker sets them; none by default
	NoNewPrivs   bool
	ReadOnly     bool              // the root; /tmp can be written to all the same
	Seccomp      *Seccomp          // nil = no profile
	Binds        map[string]string // files of this machine, by the path that the container has them under
	Scratch      []string          // directories that are the container's under the same path, and can be written to
}

// DockerCapabilities are those of a container that docker run starts without further ado. CAP_SYS_PTRACE and
// CAP_SYS_ADMIN are not among them.
func DockerCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
		"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// CanRunc says why no container can be run here; nil when it can.
func CanRunc() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("runc needs root here")
	}
	_, err := exec.LookPath("runc")
	return err
}

type object = map[string]any

// bundle is what runc needs for one container.
type bundle struct{ name, dir, state string }

// contain returns the command line that runs argv in a container.
func contain(t testing.TB, o Options, argv []string) ([]string, *bundle) {
	t.Helper()
	dir := t.TempDir()
	b := &bundle{name: "holdfast-" + strconv.Itoa(os.Getpid()) + "-" + filepath.Base(filepath.Dir(dir)), dir: dir, state: t.TempDir()}
	// runc's own end, should the tests be killed, must be that of the container.
	argv = append([]string{"/usr/bin/setpriv", "--pdeathsig", "KILL"}, argv...)
	text, err := json.Marshal(o.Container.spec(t, o, argv))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	makeRoot(t, filepath.Join(dir, "rootfs"))
	t.Cleanup(func() {
		_ = exec.Command("runc", "--root", b.state, "delete", "--force", b.name).Run() // an error says that it is gone
	})
	return []string{"runc", "--root", b.state, "run", "--pid-file", b.pidFile(), "--bundle", dir, b.name}, b
}

func (b *bundle) pidFile() string { return filepath.Join(b.dir, "pid") }

// pid waits for the container's first process, and returns 0 when stop says that there will be none.
func (b *bundle) pid(stop func() bool) int {
	for end := time.Now().Add(time.Minute); time.Now().Before(end) && !stop(); time.Sleep(time.Millisecond) {
		text, _ := os.ReadFile(b.pidFile()) // runc renames it into its place
		if pid, err := strconv.Atoi(string(text)); err == nil {
			return pid
		}
	}
	return 0
}

// makeRoot makes the directories that are mounted upon, and links as this machine's root has them.
func makeRoot(t testing.TB, root string) {
	t.Helper()
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		if target, err := os.Readlink("/" + name); err == nil {
			if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (c Container) spec(t testing.TB, o Options, argv []string) object {
	t.Helper()
	capabilities := object{"bounding": c.Capabilities, "permitted": c.Capabilities, "effective": c.Capabilities}
	if c.UID != 0 { // execve(2) leaves nobody else any
		capabilities = object{"bounding": c.Capabilities}
	}
	directory := o.Dir
	if directory == "" {
		directory = "/"
	}
	linux := object{
		"namespaces":    []object{{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}},
		"maskedPaths":   []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"},
		"readonlyPaths": []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
	}
	if c.Seccomp != nil {
		linux["seccomp"] = c.Seccomp
	}
	return object{
		"ociVersion": "1.0.2",
		"process": object{
			"user": object{"uid": c.UID, "gid": c.GID}, "args": argv, "cwd": directory,
			"env": append(append(os.Environ(), "HOME=/tmp"), o.Env...), "capabilities": capabilities, "noNewPrivileges": c.NoNewPrivs,
		},
		"root":   object{"path": "rootfs", "readonly": c.ReadOnly},
		"mounts": c.mounts(t),
		"linux":  linux,
	}
}

func (c Container) mounts(t testing.TB) []object {
	t.Helper()
	mounts := []object{
		{"destination": "/proc", "type": "proc", "source": "proc"},
		{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755", "size=64k"}},
		{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=1777", "size=16m"}},
	}
	bind := func(dir string, options ...string) {
		mounts = append(mounts, object{"destination": dir, "type": "bind", "source": dir, "options": append(options, "rbind")})
	}
	for _, dir := range []string{"/usr", "/etc", filepath.Dir(Bin(t)), filepath.Dir(Naughty(t)), Servers(t)} {
		bind(dir, "ro")
	}
	for _, dir := range c.Scratch {
		bind(dir, "rw")
	}
	for to, from := range c.Binds {
		mounts = append(mounts, object{"destination": to, "type": "bind", "source": from, "options": []string{"rw", "rbind"}})
	}
	return mounts
}
