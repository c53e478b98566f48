package takeover

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const epollInfo = "pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t1060\n" +
	"tfd:        7 events:       19 data:                7  pos:0 ino:1b3d sdev:9\n" +
	"tfd:       12 events: 80000019 data: ffffffffffffffff  pos:0 ino:2c sdev:9\n"

func TestWatches(t *testing.T) {
	for _, c := range []struct {
		text  string
		fd    int
		inode uint64
		want  bool
	}{
		{epollInfo, 7, 0x1b3d, true}, {epollInfo, 12, 0x2c, true},
		{epollInfo, 7, 0x2c, false},   // the number is another's by now
		{epollInfo, 1, 0x1b3d, false}, // 1 is not 12
		{epollInfo, 2, 0x2c, false}, {"", 7, 7, false},
		{"tfd:        7 events:       19 data:                7\n", 7, 1, true}, // before Linux 4.13
		{"tfd:        7 events:       19 data:                7  pos:0 ino:xyz sdev:9\n", 7, 1, false},
		{"tfd:\n", 7, 1, false}, {"tfd:        7", 7, 1, true},
	} {
		if got := watches([]byte(c.text), c.fd, c.inode); got != c.want {
			t.Errorf("%q, descriptor %d, inode %#x: %v", c.text, c.fd, c.inode, got)
		}
	}
}

func FuzzWatches(f *testing.F) {
	f.Add([]byte(epollInfo), 7, uint64(0x1b3d))
	f.Add([]byte("tfd:        7 events:       19 data:                7\n"), 7, uint64(1))
	f.Add([]byte("tfd: 7  ino: \ntfd:7 ino:"), 7, uint64(1))
	f.Fuzz(func(t *testing.T, b []byte, fd int, inode uint64) {
		if got := watches(b, fd, inode); got && !strings.Contains(string(b), fmt.Sprint(fd)) {
			t.Errorf("%q: descriptor %d is in it", b, fd)
		}
		// What the kernel writes is found, whatever comes before it on other lines.
		if fd >= 0 && (len(b) == 0 || b[len(b)-1] == '\n') {
			line := fmt.Sprintf("tfd: %8d events: %8x data: %16x  pos:%d ino:%x sdev:%x\n", fd, 0x19, 7, 0, inode, 9)
			if !watches([]byte(line), fd, inode) || watches([]byte(line), fd, inode+1) {
				t.Errorf("%q is not understood", line)
			}
		}
	})
}

func FuzzStatus(f *testing.F) {
	f.Add([]byte("Name:\tx\nUmask:\t0022\nTgid:\t12\nUid:\t0\t1\t2\t3\nGid:\t0\t0\t0\t0\n"), "Uid", 3, 10)
	f.Add([]byte("pos:\t0\nflags:\t02004002\nmnt_id:\t9\n"), "flags", 0, 8)
	f.Add([]byte("CapEff:\t000001ffffffffff\n"), "CapEff", 0, 16)
	f.Add([]byte("Uid:\t99999999999999999999\nUid"), "Uid", 0, 10)
	f.Fuzz(func(t *testing.T, b []byte, key string, column, base int) {
		if column < 0 || base != 8 && base != 16 {
			column, base = max(column, 0), 10
		}
		n, err := number(b, key, column, base)
		if err == nil && !strings.Contains(string(b), key+":") {
			t.Errorf("%q: %s is %d", b, key, n)
		}
	})
}

// FuzzNotification: the filter and the decoder say the same of every call, and a Call can be made of anything.
func FuzzNotification(f *testing.F) {
	for _, n := range tables() {
		for _, v := range verdicts(n) {
			f.Add(v.data.nr, v.data.arch, v.data.args[0], v.data.args[1], v.data.args[2], v.data.args[3], v.data.args[4])
		}
	}
	programs := map[uint32]abi{amd64().audit: amd64(), arm64().audit: arm64()}
	f.Fuzz(func(t *testing.T, nr int32, arch uint32, a0, a1, a2, a3, a4 uint64) {
		d := data{nr: nr, arch: arch, args: [6]uint64{a0, a1, a2, a3, a4}}
		a, ok := programs[arch]
		if !ok {
			a = amd64()
		}
		p := program(a, FilterOptions{Sockets: true, Unlinks: true})
		notified := interpret(t, p, d, make([]bool, len(p))) == notify
		if a.x32 && uint32(nr) >= x32Bit && notified {
			t.Errorf("an x32 call is notified: %+v", d)
		}
		if is := a.syscall(&d); (is != Unknown) != notified {
			t.Errorf("%+v is %v, notified: %v", d, is, notified)
		}
		c := (&Listener{}).call(notif{id: 1, pid: 0, data: d})
		_, _ = c.Request(), c.OptionName()
		if c.Nr.String() == "" || (c.Nr == Socket || c.Nr == Unlink || c.Nr == Rename) != (c.FD == -1) && int32(a0) != -1 {
			t.Errorf("%+v", c)
		}
		// Nobody is there whose memory could be read: each is an error, and no panic.
		for what, err := range map[string]error{
			"Sockaddr": second(c.Sockaddr()), "Option": second(c.Option()), "Socket": second(c.Socket()), "Inode": second(c.Inode()),
			"Absolute": second(c.Absolute(int(int32(a0)), "x")), "InEventpoll": second(c.InEventpoll(1)), "ForeignNetwork": second(c.ForeignNetwork()),
		} {
			if err == nil {
				t.Errorf("%s of a thread that is not here", what)
			}
		}
	})
}

// FuzzRights: descriptors are taken from control messages as the kernel makes them, and from nothing else.
func FuzzRights(f *testing.F) {
	f.Add(unix.UnixRights(1_000_000))
	f.Add(unix.UnixRights(1_000_000, 1_000_001, 1_000_002)[:20])
	f.Add([]byte("\x10\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if fds := parseRights(b); len(fds) > len(b)/4 {
			t.Errorf("%d descriptors in %d bytes", len(fds), len(b))
		}
	})
}
