package control

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestMain lets the test binary be a peer, as which other users and other PID namespaces can be had.
func TestMain(m *testing.M) {
	if role := os.Getenv("CONTROL_TEST_ROLE"); role != "" {
		os.Exit(play(role, space(os.Getenv("CONTROL_TEST_SPACE"))))
	}
	os.Exit(m.Run())
}

func play(role string, s space) int {
	var err error
	switch role {
	case "serve": // until the standard input ends
		err = playServer(s)
	case "serve here":
		err = playServer(here())
	case "dial":
		_, err = s.dial(os.Getppid())
	case "knock":
		var answer string
		answer, err = knock(s.name(os.Getppid()))
		fmt.Printf("%d bytes\n", len(answer))
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func playServer(s space) error {
	l, err := s.listen(os.Getpid())
	if err != nil {
		return err
	}
	go serve(noEnd, l, Handler{Probes: noProbes, Reload: answerPID}, defaultLimits())
	fmt.Println("listening")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// knock asks for a reload without looking who is there; who is not let in gets no answer.
func knock(name string) (string, error) {
	c, err := net.Dial("unix", name)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST /reload HTTP/1.0\r\n\r\n"); err != nil && !errors.Is(err, syscall.EPIPE) {
		return "", err
	}
	answer, err := io.ReadAll(c)
	if errors.Is(err, syscall.ECONNRESET) {
		err = nil
	}
	return string(answer), err
}

// peer runs the test binary in the role, and returns its first line.
func peer(t *testing.T, role string, s space, attr *syscall.SysProcAttr) (pid int, line string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "CONTROL_TEST_ROLE="+role, "CONTROL_TEST_SPACE="+string(s))
	cmd.Dir = "/"
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("cannot start a peer: %v", err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	line, err = bufio.NewReader(out).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return cmd.Process.Pid, strings.TrimSpace(line)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
}
