package harness

import (
	"context"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Command runs one of holdfast's commands against h, as kubectl exec would: from the same PID namespace. It returns the
// exit code and what was printed on stdout and stderr.
func (h *Holdfast) Command(args ...string) (code int, output string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	argv := append([]string{Bin(h.t)}, args...)
	if h.pid1 {
		argv = append([]string{"nsenter", "--target", strconv.Itoa(h.pid), "--pid", "--mount"}, argv...)
	} else {
		argv = append(argv, "--pid", strconv.Itoa(h.pid))
	}
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("run %q: %v", argv, err)
	}
	if exit != nil {
		code = exit.ExitCode()
	}
	return code, strings.TrimSpace(string(out))
}
