package reaper_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/reaper"
)

// TestStartHangs: the kernel does not come back from execve(2), as with a file system that does not answer. Start does not
// wait for that, and the child holds nothing but what is the program's and the report, so that what this process closes
// meanwhile is closed.
//
// Here it is a filter that has execve(2) wait for an answer, which also shows that the listener of a filter arrives, even if
// this process has no descriptor left.
func TestStartHangs(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	r, _ := newReaper(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	read, write := pipe(t)
	c := reaper.Command{
		Argv: []string{"/bin/true"}, Files: []int{0, 1, 2}, Report: int(write.Fd()), Terminal: -1,
		Filter: &reaper.Filter{
			Program: []unix.SockFilter{
				{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
				{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_EXECVE},
				{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
				{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
			},
			Attempts: []uintptr{1 << 30, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER}, Control: pair[1], Required: true,
		},
	}
	full, empty := fill(t)
	pid, err := r.Start(c)
	empty()
	if err != nil {
		t.Fatal(err)
	}
	if !full {
		t.Error("this process had descriptors left")
	}
	want := map[int]string{}
	for i, fd := range append(c.Files, c.Report) {
		want[i], _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	}
	write.Close()
	unix.Close(pair[1])
	listener := receive(t, pair[0])
	if listener < 0 {
		_, _ = syscall.Wait4(pid, nil, 0, nil)
		return
	}
	// That it waits is seen by the listener.
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}, int(patience.Milliseconds())); err != nil {
		t.Fatal(err)
	}
	if got := descriptors(t, pid); !maps.Equal(got, want) {
		t.Errorf("it holds %v, want %v", got, want)
	}
	unix.Close(listener) // nobody is left to answer: ENOSYS
	report, err := io.ReadAll(read)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Outcome(report); fmt.Sprint(err) != "execute /bin/true: function not implemented" {
		t.Errorf("outcome %v", err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || status.ExitStatus() != reaper.CodeNotExecutable {
		t.Errorf("%v, exit code %d, want 126", err, status.ExitStatus())
	}
}

// fill leaves no descriptor free, until empty is called.
func fill(t *testing.T) (full bool, empty func()) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	var fds []int
	for range 64 {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if full = errors.Is(err, unix.EMFILE); full {
			break
		}
		fds = append(fds, fd)
	}
	return full, func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
	}
}

// receive returns the listener that a child sends; -1 = it has sent that there can be none here.
func receive(t *testing.T, control int) int {
	t.Helper()
	b, rights := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
	n, rn, _, _, err := unix.Recvmsg(control, b, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	report, err := reaper.ParseFilterReport(b[:n])
	if err != nil {
		t.Fatal(err)
	}
	switch failed := report.Failed(); {
	case failed == nil:
	case errors.Is(failed, unix.ENOSYS), errors.Is(failed, unix.EINVAL), errors.Is(failed, unix.EPERM), errors.Is(failed, unix.EBUSY):
		t.Log(failed)
		return -1
	default:
		t.Error(failed)
		return -1
	}
	if report.Flags != unix.SECCOMP_FILTER_FLAG_NEW_LISTENER {
		t.Errorf("%+v, want the second attempt", report)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:rn])
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d control messages, %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("descriptors %v, %v", fds, err)
	}
	return fds[0]
}
