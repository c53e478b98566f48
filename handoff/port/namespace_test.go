package port

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inside is set in a test process that has a network namespace of its own.
const inside = "HOLDFAST_TEST_NAMESPACE"

// TestOtherNetworks runs other tests again in network namespaces that are set up differently.
func TestOtherNetworks(t *testing.T) {
	if os.Getenv(inside) != "" {
		t.Skip("inside already")
	}
	if testing.Short() {
		t.Skip("takes a while")
	}
	const most = "Life|Lost|Stragglers|Leaked|Random|Workers|Dial|Adopt|ProveAccept|Relay"
	for name, c := range map[string]struct{ sysctl, run, skip string }{
		"connections migrate": {"net/ipv4/tcp_migrate_req=1", most, ""},
		"no IPv6":             {"net/ipv6/conf/all/disable_ipv6=1", most, ""},
		"syncookies always":   {"net/ipv4/tcp_syncookies=2", most, "Deferred"}, // which cookies defeat
		"small queues":        {"net/core/somaxconn=8", "Life|Lost|Random|ProveAccept", ""},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run="+c.run, "-test.skip=^TestOther|"+c.skip)
			if c.skip == "" {
				cmd.Args[2] = "-test.skip=^TestOther"
			}
			cmd.Env = append(os.Environ(), inside+"="+c.sysctl)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
			if out, err := cmd.CombinedOutput(); os.IsPermission(err) {
				t.Skipf("no network namespace: %v", err)
			} else if err != nil {
				t.Errorf("%v:\n%s", err, out)
			}
		})
	}
}

func TestMain(m *testing.M) {
	if setting := os.Getenv(inside); setting != "" {
		if err := settle(setting); err != nil {
			println(err.Error())
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// settle brings loopback up and applies a sysctl.
func settle(setting string) error {
	key, value, _ := strings.Cut(setting, "=")
	if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}
