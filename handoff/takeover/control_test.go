package takeover

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/reaper"
)

// received is what Receive says to what send does with the shim's end.
func received(t *testing.T, send func(child int)) error {
	t.Helper()
	if read, write, err := os.Pipe(); err == nil { // the first has Go open some for its poller
		read.Close()
		write.Close()
	}
	before := descriptors(t)
	holder, child, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	send(child)
	l, err := Receive(testContext(t), holder)
	if l != nil {
		t.Errorf("a listener: %+v", l)
		l.Close()
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	return err
}

func TestReceiveNothing(t *testing.T) {
	if err := received(t, func(child int) { unix.Close(child) }); !errors.Is(err, ErrNoListener) {
		t.Errorf("%v, want ErrNoListener", err)
	}
}

func TestReceiveGarbage(t *testing.T) {
	for _, text := range []string{"x", string(message(reaper.FilterReport{}))[1:], string(message(reaper.FilterReport{})) + "x", strings.Repeat("L", 4096)} {
		err := received(t, func(child int) {
			if err := unix.Sendmsg(child, []byte(text), nil, nil, 0); err != nil {
				t.Fatal(err)
			}
			unix.Close(child)
		})
		if err == nil || !strings.Contains(err.Error(), "bytes on a filter") {
			t.Errorf("%.9q: %v", text, err)
		}
	}
}

// TestReceiveLost has a listener not arrive, or something else in its place.
func TestReceiveLost(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for what, rights := range map[string][]byte{
		"none": nil, "another": unix.UnixRights(int(null.Fd())), "two": unix.UnixRights(int(null.Fd()), int(null.Fd())),
		"many": unix.UnixRights(0, 0, 0, 0, 0, 0, 0, 0, 0),
	} {
		err := received(t, func(child int) {
			if err := unix.Sendmsg(child, message(reaper.FilterReport{}), rights, nil, 0); err != nil {
				t.Fatal(err)
			}
			unix.Close(child)
		})
		if !errors.Is(err, ErrLost) {
			t.Errorf("%s: %v, want ErrLost", what, err)
		}
	}
}

func TestReceiveCancelled(t *testing.T) {
	holder, child, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(child)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("too long")
	cancel(why)
	if _, err := Receive(ctx, holder); !errors.Is(err, why) {
		t.Errorf("%v, want the cause", err)
	}
}

// message is r as a child sends it.
func message(r reaper.FilterReport) []byte {
	b, err := binary.Append(nil, binary.NativeEndian, r)
	if err != nil {
		panic(err)
	}
	return b
}

// TestFilterFails has the kernel know none of the flags: the holder hears of it as does who started the program.
func TestFilterFails(t *testing.T) {
	var started error
	told := received(t, func(child int) {
		f := FilterOptions{}.Filter(child, true)
		f.Attempts = []uintptr{1 << 30, 1 << 29}
		started = startBehind(f)
		unix.Close(child)
	})
	for _, err := range []error{started, told} {
		var failure *InstallError
		if !errors.As(err, &failure) || !errors.Is(err, unix.EINVAL) || errors.Is(err, ErrNested) || !strings.Contains(err.Error(), "Linux 5.0") {
			t.Errorf("%v", err)
		}
	}
}

// TestFilterNotRequired: then the program runs without.
func TestFilterNotRequired(t *testing.T) {
	told := received(t, func(child int) {
		f := FilterOptions{}.Filter(child, false)
		f.Attempts = []uintptr{1 << 30}
		if err := startBehind(f); err != nil {
			t.Error(err)
		}
		unix.Close(child)
	})
	if !errors.Is(told, unix.EINVAL) {
		t.Errorf("%v, want EINVAL", told)
	}
}

// TestReceiveFailure: what a child reports comes out as the same words, whoever is told.
func TestReceiveFailure(t *testing.T) {
	for _, r := range []reaper.FilterReport{{Errno: int32(unix.EBUSY)}, {Errno: int32(unix.EPERM), Raises: 1}} {
		told := received(t, func(child int) {
			if err := unix.Sendmsg(child, message(r), nil, nil, 0); err != nil {
				t.Fatal(err)
			}
			unix.Close(child)
		})
		want := Explain(r.Failed())
		if !strings.Contains(told.Error(), want.Error()) || !errors.Is(told, unix.Errno(r.Errno)) || errors.Is(told, ErrNested) != (r.Raises == 0) {
			t.Errorf("%v, want %v", told, want)
		}
	}
	if err := Explain(&reaper.FilterError{Errno: unix.EPIPE, Lost: true}); !errors.Is(err, ErrLost) || !errors.Is(err, unix.EPIPE) {
		t.Errorf("%v, want ErrLost", err)
	}
	if err := Explain(os.ErrClosed); err != os.ErrClosed {
		t.Errorf("%v, want it as it was", err)
	}
}

// TestLostHolder has the holder be gone before the listener can be sent.
func TestLostHolder(t *testing.T) {
	s := newSubject(t)
	holder := s.launch(start{target: "once", args: []string{"0"}})
	holder.Close()
	s.over(s.ended, "the program")
	out := s.output.String() + s.errors.String()
	if s.cmd.ProcessState.ExitCode() != reaper.CodeError && !strings.Contains(out, "function not implemented") { // it may be sent just before
		t.Errorf("%v, output %q", s.cmd.ProcessState, out)
	}
}

// TestHelp wants one line for each errno.
func TestHelp(t *testing.T) {
	for errno := range unix.Errno(134) {
		if text := installError(&reaper.FilterError{Errno: errno}).Error(); strings.ContainsRune(text, '\n') || !strings.HasPrefix(text, "install seccomp filter: ") {
			t.Errorf("%d: %q", errno, text)
		}
	}
}
