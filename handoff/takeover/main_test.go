package takeover

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/reaper"
)

// The test binary is also what the tests start: as the shim, which installs the filter and executes the rest of its
// command line, and as the program behind it.
const (
	roleVar   = "TAKEOVER_ROLE"   // "shim", or the name of a target
	filterVar = "TAKEOVER_FILTER" // words for the shim: sockets, plain, unknown
	binaryVar = "TAKEOVER_BINARY" // the copy that every user may execute
)

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVar); {
	case role == "shim":
		fmt.Fprintln(os.Stderr, "shim:", shim(os.Args[1:]))
		os.Exit(99)
	case role != "":
		targets()[role](os.Args[1:])
	default:
		os.Exit(run(m))
	}
}

// run copies the binary to where every user may execute it: the one that go test built is in a directory of root's. So
// is the one for the coverage data that a program writes at its end if the binary was built to.
func run(m *testing.M) int {
	dumpable() // before launch makes it something else
	if os.Getenv(binaryVar) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "takeover")
	if err == nil {
		defer os.RemoveAll(dir)
		scratch := filepath.Join(dir, "scratch")
		err = errors.Join(os.Chmod(dir, 0o755), duplicate(filepath.Join(dir, "takeover.test")),
			os.Mkdir(scratch, 0o777), os.Chmod(scratch, 0o777), os.Setenv("GOCOVERDIR", scratch))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv(binaryVar, filepath.Join(dir, "takeover.test"))
	return m.Run()
}

func duplicate(to string) error {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	file, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, self)
	return errors.Join(err, file.Close())
}

// shim becomes the command behind the filter. Where that fails it exits, with reaper.CodeError for want of the filter.
func shim(command []string) error {
	words := os.Getenv(filterVar)
	f := FilterOptions{Sockets: strings.Contains(words, "sockets")}.Filter(3, true)
	switch {
	case strings.Contains(words, "plain"):
		f.Attempts = f.Attempts[len(f.Attempts)-1:]
	case strings.Contains(words, "unknown"): // a kernel that does not know the best flags
		f.Attempts[0] |= 1 << 30
	}
	os.Setenv(roleVar, os.Getenv(roleVar+"_NEXT"))
	unix.CloseOnExec(f.Control)
	return reaper.Become(reaper.Command{Argv: command, Env: os.Environ(), Files: []int{0, 1, 2}, Report: -1, Terminal: -1, Filter: f})
}
