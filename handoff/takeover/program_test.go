package takeover

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	allow  = unix.SECCOMP_RET_ALLOW
	notify = unix.SECCOMP_RET_USER_NOTIF
)

// interpret runs a classic BPF program as the kernel does (bpf_check_classic and seccomp_check_filter: all that programs
// may hold, as far as ours do) and marks the instructions that ran.
func interpret(t *testing.T, p []unix.SockFilter, d data, ran []bool) uint32 {
	t.Helper()
	var packet [64]byte
	binary.LittleEndian.PutUint32(packet[0:], uint32(d.nr))
	binary.LittleEndian.PutUint32(packet[4:], d.arch)
	binary.LittleEndian.PutUint64(packet[8:], d.ip)
	for i, arg := range d.args {
		binary.LittleEndian.PutUint64(packet[16+8*i:], arg)
	}
	var a uint32
	for pc := 0; pc < len(p); pc++ {
		ran[pc] = true
		in := p[pc]
		yes := false
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			if in.K%4 != 0 || in.K > 60 {
				t.Fatalf("instruction %d loads at %d", pc, in.K)
			}
			a = binary.LittleEndian.Uint32(packet[in.K:])
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= in.K
			continue
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			yes = a == in.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			yes = a >= in.K
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			yes = a&in.K != 0
		default:
			t.Fatalf("instruction %d: code %#x", pc, in.Code)
		}
		if yes {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
	t.Fatal("the program runs out of its end")
	return 0
}

// numbers are written out once more, and not taken from abi.go.
type numbers struct {
	arch                                                                uint32
	socket, bind, listen, setsockopt, connect, accept, getpid, unlinkat int32

	renameat, renameat2 int32
	unlink, rename      int32 // -1 = none
}

func tables() map[string]numbers {
	return map[string]numbers{
		"amd64": {arch: 0xc000003e, socket: 41, bind: 49, listen: 50, setsockopt: 54, connect: 42, accept: 43, getpid: 39, unlinkat: 263, unlink: 87, rename: 82, renameat: 264, renameat2: 316},
		"arm64": {arch: 0xc00000b7, socket: 198, bind: 200, listen: 201, setsockopt: 208, connect: 203, accept: 202, getpid: 172, unlinkat: 35, unlink: -1, rename: -1, renameat: 38, renameat2: 276},
	}
}

type verdict struct {
	what string
	data data
	want uint32
	need FilterOptions // the verdict holds with these only; without them it is allow
	is   Syscall
}

func verdicts(n numbers) []verdict {
	const high = 0xffff_ffff_0000_0000
	always, sockets, unlinks := FilterOptions{}, FilterOptions{Sockets: true}, FilterOptions{Unlinks: true}
	paths := FilterOptions{Connect: true} // or Sockets
	in := func(nr int32, args ...uint64) data {
		d := data{nr: nr, arch: n.arch, ip: 0xffff_ffff_ffff_ffff}
		copy(d.args[:], args)
		return d
	}
	return []verdict{
		{"bind", in(n.bind, 3, 0x7fff0000, 16), notify, always, Bind},
		{"listen", in(n.listen, 3, 128), notify, always, Listen},
		{"IPV6_V6ONLY", in(n.setsockopt, 3, 41, 26, 1, 4), notify, always, Setsockopt},
		{"IPV6_V6ONLY, high halves", in(n.setsockopt, high|3, high|41, high|26), notify, always, Setsockopt},
		{"SO_REUSEPORT", in(n.setsockopt, 3, 1, 15), notify, always, Setsockopt},
		{"SO_REUSEPORT, high halves", in(n.setsockopt, 3, 1<<32|1, 5<<32|15), notify, always, Setsockopt},
		{"SO_REUSEADDR", in(n.setsockopt, 3, 1, 2), allow, always, Unknown},
		{"name in the high half only", in(n.setsockopt, 3, 1, 15<<32), allow, always, Unknown},
		{"level in the high half only", in(n.setsockopt, 3, 1<<32, 36), allow, always, Unknown},
		{"SOL_SOCKET with V6ONLY's number", in(n.setsockopt, 3, 1, 26), allow, always, Unknown},
		{"IPPROTO_IPV6 with REUSEPORT's number", in(n.setsockopt, 3, 41, 15), allow, always, Unknown},
		{"TCP_NODELAY", in(n.setsockopt, 3, 6, 1), allow, always, Unknown},
		{"TCP stream", in(n.socket, 2, 1, 0), notify, sockets, Socket},
		{"TCP stream with flags", in(n.socket, 2, 1|0o4000|0o2000000, 6), notify, sockets, Socket},
		{"UDP", in(n.socket, 2, 2, 17), notify, sockets, Socket},
		{"IPv6 stream, high halves", in(n.socket, high|10, high|1), notify, sockets, Socket},
		{"IPv6 datagram", in(n.socket, 10, 2|0o4000), notify, sockets, Socket},
		{"raw", in(n.socket, 2, 3, 1), allow, always, Unknown},
		{"unix stream", in(n.socket, 1, 1, 0), notify, sockets, Socket},
		{"unix stream of a protocol", in(n.socket, 1, 1, 7), allow, always, Unknown},
		{"unix datagram", in(n.socket, 1, 2, 0), allow, always, Unknown},
		{"raw IPv6", in(n.socket, 10, 3, 58), allow, always, Unknown},
		{"SCTP IPv6 stream", in(n.socket, 10, 1, 132), allow, always, Unknown},
		{"netlink", in(n.socket, 16, 3, 0), allow, always, Unknown},
		{"MPTCP stream", in(n.socket, 2, 1, 262), notify, sockets, Socket},
		{"SCTP stream", in(n.socket, 2, 1, 132), allow, always, Unknown},
		{"ping", in(n.socket, 2, 2, 1), allow, always, Unknown},
		{"UDP-Lite", in(n.socket, 10, 2, 136), allow, always, Unknown},
		{"protocol in the high half only", in(n.socket, 10, 2, 1<<32), notify, sockets, Socket},
		{"connect", in(n.connect, 3, 0x7fff0000, 16), notify, sockets, Connect},
		{"connect, IPv6", in(n.connect, 3, 0x7fff0000, high|28), notify, sockets, Connect},
		{"connect to a path", in(n.connect, 3, 0x7fff0000, 110), notify, paths, Connect},
		{"connect to a short path", in(n.connect, 3, 0x7fff0000, high|12), notify, paths, Connect},
		{"unlinkat", in(n.unlinkat, 0xffffff9c, 0x7fff0000, 0), notify, unlinks, Unlink},
		{"unlinkat, high half", in(n.unlinkat, 0xffffff9c, 0x7fff0000, high), notify, unlinks, Unlink},
		{"renameat", in(n.renameat, 0xffffff9c, 0x7fff0000, 0xffffff9c, 0x7fff0000), notify, unlinks, Rename},
		{"renameat2", in(n.renameat2, 0xffffff9c, 0x7fff0000, 0xffffff9c, 0x7fff0000, 1), notify, unlinks, Rename},
		{"renameat2 of two", in(n.renameat2, 0xffffff9c, 0x7fff0000, 0xffffff9c, 0x7fff0000, 2), allow, always, Unknown},
		{"unlinkat of a directory", in(n.unlinkat, 0xffffff9c, 0x7fff0000, 0x200), allow, always, Unknown},
		{"TCP_DEFER_ACCEPT", in(n.setsockopt, 3, 6, 9, 1, 4), notify, always, Setsockopt},
		{"IP_PKTINFO", in(n.setsockopt, 3, 0, 8, 1, 4), notify, always, Setsockopt},
		{"SO_RCVBUF", in(n.setsockopt, 3, 1, 8, 1, 4), notify, always, Setsockopt},
		{"UDP_GRO", in(n.setsockopt, 3, 17, 104, 1, 4), notify, always, Setsockopt},
		{"IP_ADD_MEMBERSHIP", in(n.setsockopt, 3, 0, 35, 1, 4), allow, always, Unknown},
		{"UDP_CORK", in(n.setsockopt, 3, 17, 1, 1, 4), allow, always, Unknown},
		{"SOL_NETLINK", in(n.setsockopt, 3, 270, 1, 1, 4), allow, always, Unknown},
		{"SO_KEEPALIVE", in(n.setsockopt, 3, 1, 9, 1, 4), allow, always, Unknown},
		{"accept", in(n.accept, 3), allow, always, Unknown},
		{"getpid", in(n.getpid), allow, always, Unknown},
		{"-1", in(-1), allow, always, Unknown},
		{"i386 bind", data{nr: 361, arch: 0x40000003}, allow, always, Unknown},
		{"i386, bind's number", data{nr: n.bind, arch: 0x40000003}, allow, always, Unknown},
		{"arm, bind's number", data{nr: n.bind, arch: 0x40000028}, allow, always, Unknown},
		{"x32 bind", in(n.bind | 0x40000000), allow, always, Unknown},
		{"x32 setsockopt", in(0x40000000|541, 3, 41, 26), allow, always, Unknown},
	}
}

func TestProgram(t *testing.T) {
	abis := map[string]abi{"amd64": amd64(), "arm64": arm64()}
	for name, n := range tables() {
		for _, o := range []FilterOptions{{}, {Sockets: true}, {Unlinks: true}, {Connect: true}, {Sockets: true, Unlinks: true, Connect: true}} {
			t.Run(fmt.Sprintf("%s/%+v", name, o), func(t *testing.T) {
				p := program(abis[name], o)
				ran := make([]bool, len(p))
				all := verdicts(n)
				for level, names := range Kept() {
					for _, name := range names {
						d := data{nr: n.setsockopt, arch: n.arch, args: [6]uint64{3, uint64(level), uint64(name)}}
						all = append(all, verdict{fmt.Sprint("option ", level, " ", name), d, notify, FilterOptions{}, Setsockopt})
					}
				}
				if n.unlink >= 0 {
					d := data{nr: n.unlink, arch: n.arch}
					all = append(all, verdict{"unlink", d, notify, FilterOptions{Unlinks: true}, Unlink})
					d = data{nr: n.rename, arch: n.arch}
					all = append(all, verdict{"rename", d, notify, FilterOptions{Unlinks: true}, Rename})
				}
				for _, v := range all {
					want := v.want
					if v.need.Sockets && !o.Sockets || v.need.Unlinks && !o.Unlinks || v.need.Connect && !o.Connect && !o.Sockets {
						want = allow
					}
					if got := interpret(t, p, v.data, ran); got != want {
						t.Errorf("%s: %#x, want %#x", v.what, got, want)
					}
					if got := abis[name].syscall(&v.data); got != v.is {
						t.Errorf("%s: is %v, want %v", v.what, got, v.is)
					}
				}
				for i, yes := range ran {
					if !yes {
						t.Errorf("instruction %d has never run: %+v", i, p[i])
					}
				}
			})
		}
	}
}

// TestProgramsApart gives each program the other architecture's calls.
func TestProgramsApart(t *testing.T) {
	for name, other := range map[string]abi{"amd64": arm64(), "arm64": amd64()} {
		p := program(other, FilterOptions{Sockets: true, Unlinks: true})
		for _, v := range verdicts(tables()[name]) {
			if got := interpret(t, p, v.data, make([]bool, len(p))); got != allow {
				t.Errorf("%s, %s: %#x, want allow", name, v.what, got)
			}
		}
	}
}

func TestNativeNumbers(t *testing.T) {
	a, ok := native()
	if !ok {
		t.Skip("no filter for this architecture")
	}
	if a.bind != unix.SYS_BIND || a.listen != unix.SYS_LISTEN || a.setsockopt != unix.SYS_SETSOCKOPT || a.socket != unix.SYS_SOCKET ||
		a.connect != unix.SYS_CONNECT || a.unlinkat != unix.SYS_UNLINKAT ||
		a.renameat != unix.SYS_RENAMEAT || a.renameat2 != unix.SYS_RENAMEAT2 {
		t.Errorf("%+v are not the numbers that this was built with", a)
	}
}
