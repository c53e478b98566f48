package handoff

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/handoff/port"
	"holdfast/handoff/ready"
	"holdfast/handoff/takeover"
)

func option(level, name int, value ...byte) takeover.Option {
	return takeover.Option{OptionName: takeover.OptionName{Level: level, Name: name}, Value: value}
}

func TestSummary(t *testing.T) {
	v6only, reusePort := option(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1, 0, 0, 0), option(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, 0, 0, 0)
	rcvbuf := option(unix.SOL_SOCKET, unix.SO_RCVBUF, 0, 1, 0, 0)
	for name, c := range map[string]struct {
		set  []takeover.Option
		want string
	}{
		"nothing":        {nil, "{false false false false []}"},
		"v6only":         {[]takeover.Option{v6only}, "{true true false false []}"},
		"dual stack":     {[]takeover.Option{option(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0, 0, 0, 0)}, "{false true false false []}"},
		"too short":      {[]takeover.Option{option(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)}, "{false false false false []}"},
		"reuseport":      {[]takeover.Option{reusePort}, "{false false true false []}"},
		"device":         {[]takeover.Option{option(unix.SOL_SOCKET, unix.SO_BINDTODEVICE, 'l', 'o')}, "{false false false true []}"},
		"no device":      {[]takeover.Option{option(unix.SOL_SOCKET, unix.SO_BINDTODEVICE, 0)}, "{false false false false []}"},
		"interface":      {[]takeover.Option{option(unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, 2, 0, 0, 0)}, "{false false false true []}"},
		"others in turn": {[]takeover.Option{rcvbuf, v6only, option(unix.IPPROTO_IP, unix.IP_PKTINFO, 1)}, "{true true false false [{{1 8} [0 1 0 0]} {{0 8} [1]}]}"},
	} {
		if got := fmt.Sprint(summary(c.set)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestUnboundOptions(t *testing.T) {
	_, fake, _ := newLoop(t, Options{})
	u := newUnbound(fake)
	u.note(7, option(1, 8, 1))
	u.note(7, option(1, 7, 2))
	u.note(7, option(1, 8, 3))
	if got := fmt.Sprint(u.set(7)); got != "[{{1 7} [2]} {{1 8} [3]}]" { // the last value, in the order of the setting
		t.Errorf("options %s", got)
	}
	u.forget(7)
	if len(u.set(7)) != 0 || len(u.noted) != 0 {
		t.Error("they are not forgotten")
	}
	for inode := range uint64(2 * maxNoted) {
		u.note(inode, option(1, 8, 1))
	}
	if len(u.options) != maxNoted || len(u.noted) != maxNoted || u.set(maxNoted-1) != nil || u.set(maxNoted) == nil {
		t.Errorf("%d are kept, want the last %d", len(u.options), maxNoted)
	}
	u.close()
	if u.note(1, option(1, 8, 1)); len(u.options) != 0 {
		t.Error("something is kept after the end")
	}
}

// TestSpares: the holder's duplicates are bounded in number and time, and taken but once.
func TestSpares(t *testing.T) {
	l, fake, _ := newLoop(t, Options{})
	_ = l
	u := newUnbound(fake)
	make := func() int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	isOpen := func(fd int) bool { _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); return err == nil }
	before := descriptors(t)
	first := make()
	u.keep(1, first)
	if got := u.take(1); got != first || u.take(1) != -1 || !isOpen(first) {
		t.Errorf("took %d, want %d", got, first)
	}
	unix.Close(first)
	for inode := range uint64(maxSpares + 10) {
		u.keep(inode, make())
	}
	if n := descriptors(t); n != before+maxSpares || u.take(9) != -1 {
		t.Errorf("%d duplicates are kept, want %d", n-before, maxSpares)
	}
	u.drop(maxSpares)
	if n := descriptors(t); n != before+maxSpares-1 {
		t.Errorf("%d duplicates are kept after one was dropped", n-before)
	}
	fake.Step(spareTime)
	if n := descriptors(t); n != before || !u.idle() || len(u.kept) != 0 {
		t.Errorf("%d duplicates are kept after their time", n-before)
	}
	u.keep(1, make())
	u.close()
	u.keep(2, make())
	if n := descriptors(t); n != before {
		t.Errorf("%d duplicates are kept after the end", n-before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestSpecOfBind(t *testing.T) {
	l, _, _ := newLoop(t, Options{TakeoverExclude: []int{81}})
	inet := func(text string) takeover.Sockaddr {
		addr := netip.MustParseAddrPort(text)
		kind := takeover.Inet6Addr
		if addr.Addr().Is4() {
			kind = takeover.InetAddr
		}
		return takeover.Sockaddr{Kind: kind, Addr: addr}
	}
	for name, c := range map[string]struct {
		address takeover.Sockaddr
		path    string
		kind    takeover.SocketKind
		options socketOptions
		want    string // "" = it is not held
	}{
		"TCP":                      {inet("127.0.0.1:80"), "", takeover.TCP, socketOptions{}, "127.0.0.1:80"},
		"UDP":                      {inet("127.0.0.1:53"), "", takeover.UDP, socketOptions{}, "udp://127.0.0.1:53"},
		"dual stack":               {inet("[::]:80"), "", takeover.TCPv6, socketOptions{}, ":80"},
		"IPv6 only":                {inet("[::]:80"), "", takeover.TCPv6, socketOptions{v6only: true, v6onlySet: true}, "[::]:80"},
		"no port":                  {inet("127.0.0.1:0"), "", takeover.TCP, socketOptions{}, ""},
		"excluded":                 {inet("127.0.0.1:81"), "", takeover.TCP, socketOptions{}, ""},
		"a zone":                   {inet("[fe80::1%2]:80"), "", takeover.TCPv6, socketOptions{}, ""},
		"bound to a device":        {inet("127.0.0.1:80"), "", takeover.TCP, socketOptions{device: true}, ""},
		"IPv6 address, IPv4 kind":  {inet("[::1]:80"), "", takeover.TCP, socketOptions{}, ""},
		"IPv4 address, IPv6 kind":  {inet("127.0.0.1:80"), "", takeover.TCPv6, socketOptions{}, ""},
		"a path":                   {takeover.Sockaddr{Kind: takeover.PathAddr, Name: "s"}, "/run/s", takeover.UnixStream, socketOptions{}, "unix:///run/s"},
		"an abstract name":         {takeover.Sockaddr{Kind: takeover.AbstractAddr, Name: "s"}, "", takeover.UnixStream, socketOptions{}, ""},
		"datagrams of a path":      {takeover.Sockaddr{Kind: takeover.PathAddr, Name: "s"}, "/run/s", takeover.UnixDgram, socketOptions{}, ""},
		"another kind of socket":   {inet("127.0.0.1:80"), "", takeover.OtherSocket, socketOptions{}, ""},
		"any address, AF_UNSPEC":   {takeover.Sockaddr{}, "", takeover.TCP, socketOptions{}, ""},
		"a path for a TCP socket":  {takeover.Sockaddr{Kind: takeover.PathAddr, Name: "s"}, "/run/s", takeover.TCP, socketOptions{}, ""},
		"an address for a path's":  {inet("127.0.0.1:80"), "", takeover.UnixStream, socketOptions{}, ""},
		"a device that is no more": {inet("127.0.0.1:80"), "", takeover.TCP, socketOptions{device: false}, "127.0.0.1:80"},
	} {
		spec, ok := l.spec(c.address, c.path, c.kind, c.options)
		if ok != (c.want != "") || ok && spec.String() != c.want {
			t.Errorf("%s: %q, %v; want %q", name, spec, ok, c.want)
		}
	}
}

// binder is a loop with a live generation, and what its programs ask.
type binder struct {
	t *testing.T
	l *Loop
	g *generation
}

func newBinder(t *testing.T) *binder {
	l, _, _ := newLoop(t, Options{Ready: []ready.Mode{{Kind: ready.Delay}}})
	g := &generation{number: 1, pid: os.Getpid(), unbound: newUnbound(l.o.Clock), ledger: newLedger(), mainGone: true}
	live(l, g, true)
	return &binder{t, l, g}
}

func (b *binder) request(address string, inode uint64, o socketOptions) *request {
	b.t.Helper()
	spec, err := port.ParseSpec(address)
	if err != nil {
		b.t.Fatal(err)
	}
	return &request{call: &takeover.Call{PID: os.Getpid(), FD: int(inode)}, spec: spec, info: takeover.SocketInfo{Inode: inode}, options: o, spare: -1, pid: os.Getpid()}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port)
}

// TestBindDecisions: one address bound again and again in a generation.
func TestBindDecisions(t *testing.T) {
	b := newBinder(t)
	address := freeAddress(t)
	first, q := b.l.bind(b.g, b.request(address, 1, socketOptions{}), question{})
	if q.open || first.goesOn || first.fd < 0 {
		t.Fatalf("first bind: %+v, %+v", first, q)
	}
	var inode uint64
	for n := range b.g.ledger.bound {
		inode = n
	}
	for what, c := range map[string]struct {
		r    *request
		want unix.Errno
	}{
		"once more, interrupted":         {b.request(address, inode, socketOptions{}), 0},
		"the bound socket anywhere else": {b.request(freeAddress(t), inode, socketOptions{}), unix.EINVAL},
	} {
		if v, q := b.l.bind(b.g, c.r, question{}); q.open || v.goesOn || v.fd != -1 || v.errno != c.want {
			t.Errorf("%s: %+v, %+v; want %v", what, v, q, c.want)
		}
	}
	first.answered()
}

// TestBindTwiceDecisions: what a listener is told of a second bind depends on who has the first.
func TestBindTwiceDecisions(t *testing.T) {
	b := newBinder(t)
	address := freeAddress(t)
	first, _ := b.l.bind(b.g, b.request(address, 1, socketOptions{}), question{})
	first.answered()
	for inode := range b.g.ledger.bound {
		b.l.listen(b.g, inode)
	}
	if len(b.l.ports) != 1 {
		t.Fatalf("%d ports are held", len(b.l.ports))
	}
	again := func(before question) (verdict, question) {
		return b.l.bind(b.g, b.request(address, 2, socketOptions{}), before)
	}
	_, asked := again(question{})
	if !asked.open || asked.everyone || len(asked.members) != 1 {
		t.Fatalf("first question: %+v", asked)
	}
	has := asked // and nothing of it is left
	if v, q := again(has); q.open || v.errno != unix.EADDRINUSE {
		t.Errorf("somebody has it: %+v, %+v", v, q)
	}
	asked.left = asked.inodes
	_, all := again(asked)
	if !all.open || !all.everyone {
		t.Fatalf("second question: %+v", all)
	}
	stale := all
	stale.changes--
	if _, q := again(stale); !q.open {
		t.Error("an answer from before a change counts")
	}
	all.left = all.inodes
	fd, _ := b.l.ports[0].FD(1)
	if v, q := again(all); q.open || v.fd != fd {
		t.Errorf("nobody has it: %+v, want its own socket, %d, again", v, fd)
	}
	// The same call once more, after a signal, gets the same answer; another's does not.
	if v, q := b.l.bind(b.g, b.request(address, 2, socketOptions{}), question{}); q.open || v.fd != fd {
		t.Errorf("the call comes again: %+v, %+v", v, q)
	}
	if v, q := b.l.bind(b.g, b.request(address, 3, socketOptions{}), question{}); q.open || v.errno != unix.EADDRINUSE {
		t.Errorf("while it is being answered: %+v, %+v", v, q)
	}
	for _, t := range b.g.ledger.bound {
		b.g.ledger.answered(t)
	}
	if _, q := b.l.bind(b.g, b.request(address, 3, socketOptions{reusePort: true}), question{}); !q.open {
		t.Error("SO_REUSEPORT on the second alone is enough")
	}
}

// TestBindWorkers: with SO_REUSEPORT each has a socket of its own; a later one that of an earlier one that has ended.
func TestBindWorkers(t *testing.T) {
	b := newBinder(t)
	address := freeAddress(t)
	bind := func(at uint64, before question) (verdict, question) {
		return b.l.bind(b.g, b.request(address, at, socketOptions{reusePort: true}), before)
	}
	listens := func(v verdict) uint64 {
		t.Helper()
		var stat unix.Stat_t
		if err := unix.Fstat(v.fd, &stat); err != nil {
			t.Fatalf("%+v: %v", v, err)
		}
		v.answered()
		b.l.listen(b.g, stat.Ino)
		return stat.Ino
	}
	v, q := bind(1, question{})
	if q.open {
		t.Fatalf("the first one: %+v", q)
	}
	first := listens(v)
	_, asked := bind(2, question{})
	if !asked.open || asked.everyone || fmt.Sprint(asked.inodes) != fmt.Sprint([]uint64{first}) {
		t.Fatalf("the second one: %+v", asked)
	}
	if v, q = bind(2, asked); q.open { // nothing is left
		t.Fatalf("nothing is left: %+v", q)
	}
	second := listens(v)
	if second == first {
		t.Fatal("two workers have one socket")
	}
	// The first one ends, and two are started.
	_, asked = bind(3, question{})
	asked.left = []uint64{first}
	_, everyone := bind(3, asked)
	if !everyone.open || !everyone.everyone || fmt.Sprint(everyone.inodes) != fmt.Sprint([]uint64{first}) {
		t.Fatalf("one is left by its binder: %+v", everyone)
	}
	everyone.left = []uint64{first}
	v, q = bind(3, everyone)
	if got := listens(v); got != first || q.open {
		t.Errorf("socket %d, want that of the first one, %d", got, first)
	}
	v, q = bind(4, everyone)
	if got := listens(v); got == first || got == second || q.open {
		t.Errorf("socket %d, want one that nobody has", got)
	}
	// One that is its program's own stays that.
	r := b.request(address, 5, socketOptions{reusePort: true})
	var err error
	if r.spare, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(r.spare)
	if v, q := b.l.bind(b.g, r, everyone); q.open || v.fd != -1 || v.errno != 0 || v.goesOn {
		t.Errorf("a socket that is to stay: %+v, %+v", v, q)
	}
}

// TestBindAfterTheEnd: a process that outlives its generation unseen gets none of the holder's sockets.
func TestBindAfterTheEnd(t *testing.T) {
	b := newBinder(t)
	address := freeAddress(t)
	ghost := &generation{number: 7, unbound: newUnbound(b.l.o.Clock), ledger: newLedger()}
	if v, _ := b.l.bind(ghost, b.request(address, 1, socketOptions{}), question{}); !v.goesOn {
		t.Errorf("an address that is not held: %+v", v)
	}
	v, _ := b.l.bind(b.g, b.request(address, 1, socketOptions{}), question{})
	v.answered()
	for inode := range b.g.ledger.bound {
		b.l.listen(b.g, inode)
	}
	if v, _ := b.l.bind(ghost, b.request(address, 2, socketOptions{}), question{}); v.errno != unix.EADDRINUSE {
		t.Errorf("a held address: %+v", v)
	}
}

// TestLateDatagrams: a UDP port that a proven generation binds is a client's, unless it is held or a well-known one.
func TestLateDatagrams(t *testing.T) {
	b := newBinder(t)
	address := "udp://" + freeAddress(t)
	if v, _ := b.l.bind(b.g, b.request(address, 1, socketOptions{}), question{}); !v.goesOn {
		t.Errorf("after the proof: %+v", v)
	}
	b.l.machine.Gens[0].Proven = false
	if v, _ := b.l.bind(b.g, b.request(address, 1, socketOptions{}), question{}); v.goesOn || v.fd < 0 {
		t.Errorf("before the proof: %+v", v)
	}
}

func TestMayUnlink(t *testing.T) {
	b := newBinder(t)
	path := t.TempDir() + "/s"
	r := b.request("unix://"+path, 1, socketOptions{})
	if v, _ := b.l.bind(b.g, r, question{}); v.fd < 0 {
		t.Fatalf("%+v", v)
	}
	p := b.l.ports[0]
	next := &generation{number: 2, unbound: newUnbound(b.l.o.Clock), ledger: newLedger()}
	b.l.generations[2] = next
	if !b.l.mayUnlink(b.g, p) {
		t.Error("the live generation may not remove what it has bound")
	}
	if b.l.mayUnlink(next, p) {
		t.Error("the next generation may, before its bind")
	}
	if v, _ := b.l.bind(next, b.request("unix://"+path, 2, socketOptions{}), question{}); v.fd < 0 {
		t.Fatalf("%+v", v)
	}
	if b.l.mayUnlink(next, p) {
		t.Error("the next generation may, after its bind")
	}
	b.g.record.StoppedAt = time.Now()
	if b.l.mayUnlink(b.g, p) {
		t.Error("a generation that has been told to stop may")
	}
}

func TestSamePlace(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/run", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("run", dir+"/var"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{dir + "/run/s": true, dir + "/var/s": true, dir + "/s": false, dir + "/none/s": false} {
		if got := samePlace(path, dir+"/run/s"); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func FuzzOwner(f *testing.F) {
	f.Add([]byte("Umask:\t0027\nUid:\t0\t1\t2\t3\nGid:\t4\t5\t6\t7\n"))
	f.Add([]byte("Umask:\t7777777\nUid:\t-1\t-1\t-1\t-1\nGid:\t1\n"))
	f.Add([]byte("Uid:\t4294967295\t4294967295\t4294967295\t4294967295\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		o := parseOwner(b)
		if o.UID < -1 || o.GID < -1 || o.UID >= 1<<32-1 || o.GID >= 1<<32-1 || o.Umask > 0o777 {
			t.Errorf("%q: %+v", b, o)
		}
	})
}
