package chaos

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/e2e/harness"
)

var (
	handoffs = flag.Int("handoffs", 0, "handoffs in all, of TestChaos or TestSoak; 0: few, as CI has the time for")
	seeded   = flag.Uint64("seed", 0, "seed of TestChaos; 0: always the same")
	record   = flag.String("record", "", "file that the counts are written to, and the page beside it, whose names end in .json and .md")
)

// patience bounds every wait for something that takes less than seconds on a quiet machine.
const patience = 90 * time.Second

// insideVariable marks the process that is in the namespaces.
const insideVariable = "HOLDFAST_CHAOS_INSIDE"

// TestMain has the tests run in namespaces of their own: their traffic, their routes and the half-open connections that
// they leave in the kernel are nobody else's.
func TestMain(m *testing.M) {
	if args := os.Getenv(helperVariable); args != "" {
		if err := helper(strings.Fields(args)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if os.Getenv(insideVariable) != "" {
		if err := arrange(); err != nil {
			fmt.Fprintln(os.Stderr, "chaos:", err)
			os.Exit(1)
		}
		os.Exit(harness.Main(m))
	}
	if os.Geteuid() != 0 {
		fmt.Println("chaos: needs root; nothing was tried")
		if os.Getenv("CI") != "" {
			os.Exit(1)
		}
		os.Exit(0)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "chaos: no namespaces:", err)
		os.Exit(1)
	}
}

// nowhere are addresses that no answer reaches (TEST-NET-2, RFC 5737): what comes from there never finishes a handshake.
const nowhere = "198.51.100"

// arrange brings up the loopback, and a route on which answers to nowhere are lost.
func arrange() error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("keep mounts private: %w", err)
	}
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"route", "add", nowhere + ".0/24", "dev", "lo"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %w: %s (e2e/deps.sh ip)", args, err, out)
		}
	}
	return nil
}
