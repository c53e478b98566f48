package takeover

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sizes that are wrong for any architecture don't compile, where the tests can't be run.
var (
	_ [6]byte  = [unsafe.Sizeof(sizes{})]byte{}
	_ [80]byte = [unsafe.Sizeof(notif{})]byte{}
	_ [24]byte = [unsafe.Sizeof(resp{})]byte{}
	_ [24]byte = [unsafe.Sizeof(addfd{})]byte{}
)

// TestLayout holds for amd64 and arm64: it has no build constraint.
func TestLayout(t *testing.T) {
	for what, is := range map[string][2]uintptr{
		"sizes":            {unsafe.Sizeof(sizes{}), 6},
		"sizes.resp":       {unsafe.Offsetof(sizes{}.resp), 2},
		"sizes.data":       {unsafe.Offsetof(sizes{}.data), 4},
		"data":             {unsafe.Sizeof(data{}), 64},
		"data.nr":          {unsafe.Offsetof(data{}.nr), atNr},
		"data.arch":        {unsafe.Offsetof(data{}.arch), atArch},
		"data.ip":          {unsafe.Offsetof(data{}.ip), 8},
		"data.args":        {unsafe.Offsetof(data{}.args), atArgs},
		"notif":            {unsafe.Sizeof(notif{}), 80},
		"notif.pid":        {unsafe.Offsetof(notif{}.pid), 8},
		"notif.flags":      {unsafe.Offsetof(notif{}.flags), 12},
		"notif.data":       {unsafe.Offsetof(notif{}.data), 16},
		"resp":             {unsafe.Sizeof(resp{}), 24},
		"resp.val":         {unsafe.Offsetof(resp{}.val), 8},
		"resp.error":       {unsafe.Offsetof(resp{}.error), 16},
		"resp.flags":       {unsafe.Offsetof(resp{}.flags), 20},
		"addfd":            {unsafe.Sizeof(addfd{}), 24},
		"addfd.flags":      {unsafe.Offsetof(addfd{}.flags), 8},
		"addfd.srcfd":      {unsafe.Offsetof(addfd{}.srcfd), 12},
		"addfd.newfd":      {unsafe.Offsetof(addfd{}.newfd), 16},
		"addfd.newfdFlags": {unsafe.Offsetof(addfd{}.newfdFlags), 20},
	} {
		if is[0] != is[1] {
			t.Errorf("%s: %d, want %d", what, is[0], is[1])
		}
	}
}

// TestNumbers derives the ioctl numbers as asm-generic/ioctl.h does.
func TestNumbers(t *testing.T) {
	const write, read = 1, 2
	number := func(direction, nr uint32, size uintptr) uint32 {
		return direction<<30 | uint32(size)<<16 | '!'<<8 | nr
	}
	for what, is := range map[string][2]uint32{
		"RECV":     {unix.SECCOMP_IOCTL_NOTIF_RECV, number(read|write, 0, unsafe.Sizeof(notif{}))},
		"SEND":     {unix.SECCOMP_IOCTL_NOTIF_SEND, number(read|write, 1, unsafe.Sizeof(resp{}))},
		"ID_VALID": {unix.SECCOMP_IOCTL_NOTIF_ID_VALID, number(write, 2, 8)},
		"ADDFD":    {unix.SECCOMP_IOCTL_NOTIF_ADDFD, number(write, 3, unsafe.Sizeof(addfd{}))},
	} {
		if is[0] != is[1] {
			t.Errorf("%s: %#x, want %#x", what, is[0], is[1])
		}
	}
}

func TestBuffer(t *testing.T) {
	for _, c := range []struct {
		known uintptr
		told  uint16
		words int
	}{{80, 80, 10}, {80, 0, 10}, {80, 81, 11}, {24, 96, 12}} {
		if got := len(buffer(c.known, c.told)); got != c.words {
			t.Errorf("buffer(%d, %d): %d words, want %d", c.known, c.told, got, c.words)
		}
	}
}

func TestKernelSizes(t *testing.T) {
	s, err := notifSizes()
	if err != nil {
		t.Skip(err)
	}
	if s.notif < 80 || s.resp < 24 || s.data < 64 {
		t.Errorf("smaller than what this was written for: %+v", s)
	}
}

func TestReleaseBefore(t *testing.T) {
	for release, want := range map[string]bool{
		"5.8.0-generic": true, "4.18.0-553.el8": true, "5.9.0": false, "5.10": false, "6.18.44": false, "10.1": false, "": false, "what": false,
	} {
		if got := releaseBefore(release, 5, 9); got != want {
			t.Errorf("%q: %v, want %v", release, got, want)
		}
	}
}

func TestSupported(t *testing.T) {
	if err := Supported(); err != nil {
		t.Skipf("every other test will fail: %v", err)
	}
}
