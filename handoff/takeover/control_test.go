package takeover

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// received is what Receive says to what send does with the shim's end.
func received(t *testing.T, send func(child int)) error {
	t.Helper()
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
	for _, message := range []string{"x", "L", "Lxx", "F123", strings.Repeat("L", 4096)} {
		err := received(t, func(child int) {
			_ = tell(child, []byte(message), -1)
			unix.Close(child)
		})
		if !errors.Is(err, errMessage) {
			t.Errorf("%.9q: %v, want errMessage", message, err)
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
			if err := unix.Sendmsg(child, listenerMessage(Flags{}), rights, nil, 0); err != nil {
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

// TestInstallFails has the kernel know none of the flags: nothing is installed in this process.
func TestInstallFails(t *testing.T) {
	var installed error
	told := received(t, func(child int) { installed = install(child, FilterOptions{}, []uintptr{1 << 30, 1 << 29}) })
	for _, err := range []error{installed, told} {
		var failure *InstallError
		if !errors.As(err, &failure) || !errors.Is(err, unix.EINVAL) || errors.Is(err, ErrNested) || !strings.Contains(err.Error(), "Linux 5.0") {
			t.Errorf("%v", err)
		}
	}
}

func TestMessage(t *testing.T) {
	for _, want := range []Flags{{}, {WaitKillable: true}, {SpecAllow: true}, {NoNewPrivs: true}, {true, true, true}} {
		if got, failure, err := parseMessage(listenerMessage(want)); got != want || failure != nil || err != nil {
			t.Errorf("%+v: %+v, %v, %v", want, got, failure, err)
		}
	}
	long := &InstallError{Errno: unix.EBUSY, Reason: strings.Repeat("x", 2*maxMessage)}
	_, failure, err := parseMessage(failureMessage(long))
	if err != nil || !errors.Is(failure, ErrNested) || !errors.Is(failure, unix.EBUSY) || len(failureMessage(long)) != maxMessage {
		t.Errorf("%v, %v", failure, err)
	}
}

// TestLostHolder has the holder be gone before the listener can be sent.
func TestLostHolder(t *testing.T) {
	s := newSubject(t)
	holder := s.launch(start{target: "once", args: []string{"0"}})
	holder.Close()
	s.over(s.ended, "the program")
	out := s.output.String() + s.errors.String()
	if !strings.Contains(out, ErrLost.Error()) && !strings.Contains(out, "function not implemented") { // it may be sent just before
		t.Errorf("output %q", out)
	}
}

// TestHelp wants one line for each errno.
func TestHelp(t *testing.T) {
	for errno := range unix.Errno(134) {
		if text := installError(errno).Error(); strings.ContainsRune(text, '\n') || !strings.HasPrefix(text, "install seccomp filter: ") {
			t.Errorf("%d: %q", errno, text)
		}
	}
	if err := installError(errors.New("no errno")); !errors.Is(err, unix.EIO) {
		t.Errorf("%v, want EIO", err)
	}
}
