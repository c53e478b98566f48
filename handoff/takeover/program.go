package takeover

import (
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// FilterOptions says what is notified beside bind, listen and the options that matter before a bind.
type FilterOptions struct {
	Sockets bool // socket(2) for TCP, UDP and unix streams, and connect(2), which ends what the holder has to do with one
	Unlinks bool // unlink(2), rename(2) and their like
	Connect bool // connect(2) to what is no IP address, by its length: to a path mostly; with Sockets it is notified in any case
}

// Where seccomp's programs find the call (struct seccomp_data). The kernel takes int for all that is compared here, so
// only the low half of an argument counts: whatever a program leaves in the high one must make no difference. Both
// architectures are little-endian, where the low half comes first.
const (
	atNr   = 0
	atArch = 4
	atArgs = 16
)

func atArg(n uint32) uint32 { return atArgs + 8*n }

// sockTypeMask leaves the type of socket(2)'s second argument, without SOCK_NONBLOCK and SOCK_CLOEXEC (SOCK_TYPE_MASK).
const sockTypeMask = 0xf

// program is the filter for a: it notifies what a Syscall names and allows everything else, other architectures (i386
// and x32 on amd64, arm on arm64) included. It looks at nothing but the number of calls that it does not know, so the
// kernel answers those from a bitmap, without running it (Linux 5.11).
func program(a abi, o FilterOptions) []unix.SockFilter {
	p := []unix.SockFilter{load(atArch), equal(a.audit, 1, 0), ret(unix.SECCOMP_RET_ALLOW), load(atNr)}
	if a.x32 {
		p = append(p, atLeast(x32Bit, 0, 1), ret(unix.SECCOMP_RET_ALLOW))
	}
	notify := ret(unix.SECCOMP_RET_USER_NOTIF)
	p = append(p, guarded(a.bind, notify)...)
	p = append(p, guarded(a.listen, notify)...)
	p = append(p, guarded(a.setsockopt, setsockopt()...)...)
	if o.Sockets {
		p = append(p, guarded(a.socket, socket()...)...)
	}
	switch {
	case o.Sockets:
		p = append(p, guarded(a.connect, notify)...)
	case o.Connect:
		p = append(p, guarded(a.connect, except(atArg(2), unix.SizeofSockaddrInet4, unix.SizeofSockaddrInet6)...)...)
	}
	if o.Unlinks {
		p = append(p, guarded(a.unlinkat, without(2, unix.AT_REMOVEDIR)...)...)
		p = append(p, guarded(a.renameat, notify)...)
		p = append(p, guarded(a.renameat2, without(4, unix.RENAME_EXCHANGE)...)...)
		if a.hasOld {
			p = append(p, guarded(a.unlink, notify)...)
			p = append(p, guarded(a.rename, notify)...)
		}
	}
	return append(p, ret(unix.SECCOMP_RET_ALLOW))
}

// setsockopt notifies what Kept lists, and allows the rest.
func setsockopt() []unix.SockFilter {
	all := Kept()
	p := []unix.SockFilter{load(atArg(1))}
	for _, level := range slices.Sorted(maps.Keys(all)) {
		p = append(p, guarded(uint32(level), choose(atArg(2), all[level]...)...)...)
	}
	return append(p, ret(unix.SECCOMP_RET_ALLOW))
}

// choose notifies if the word at is one of values, and allows the rest.
func choose(at uint32, values ...int) []unix.SockFilter {
	p := []unix.SockFilter{load(at)}
	for i, v := range values {
		p = append(p, equal(uint32(v), uint8(len(values)-i), 0))
	}
	return append(p, ret(unix.SECCOMP_RET_ALLOW), ret(unix.SECCOMP_RET_USER_NOTIF))
}

// except allows if the word at is one of values, and notifies the rest.
func except(at uint32, values ...int) []unix.SockFilter {
	p := choose(at, values...)
	last := len(p) - 1
	p[last-1], p[last] = p[last], p[last-1]
	return p
}

// socket notifies TCP and UDP sockets and unix streams, and allows the rest.
func socket() []unix.SockFilter {
	inet := kinds(
		guarded(unix.SOCK_STREAM, choose(atArg(2), 0, unix.IPPROTO_TCP, unix.IPPROTO_MPTCP)...),
		guarded(unix.SOCK_DGRAM, choose(atArg(2), 0, unix.IPPROTO_UDP)...))
	p := append([]unix.SockFilter{load(atArg(0))}, guarded(unix.AF_INET, inet...)...)
	p = append(p, guarded(unix.AF_INET6, inet...)...)
	p = append(p, guarded(unix.AF_UNIX, kinds(guarded(unix.SOCK_STREAM, choose(atArg(2), 0, unix.AF_UNIX)...))...)...)
	return append(p, ret(unix.SECCOMP_RET_ALLOW))
}

// kinds runs blocks, which are guarded by the socket's type, and allows the rest.
func kinds(blocks ...[]unix.SockFilter) []unix.SockFilter {
	p := []unix.SockFilter{load(atArg(1)), {Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: sockTypeMask}}
	for _, block := range blocks {
		p = append(p, block...)
	}
	return append(p, ret(unix.SECCOMP_RET_ALLOW))
}

// without notifies a call whose argument does not have the flag, and allows the rest.
func without(argument, flag uint32) []unix.SockFilter {
	return []unix.SockFilter{
		load(atArg(argument)),
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, Jt: 1, K: flag},
		ret(unix.SECCOMP_RET_USER_NOTIF),
		ret(unix.SECCOMP_RET_ALLOW),
	}
}

// guarded runs block, which must end in a return, if the loaded word is k, and else goes on behind it.
func guarded(k uint32, block ...unix.SockFilter) []unix.SockFilter {
	return append([]unix.SockFilter{equal(k, 0, uint8(len(block)))}, block...)
}

func load(at uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
}

func equal(k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: yes, Jf: no, K: k}
}

func atLeast(k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, Jt: yes, Jf: no, K: k}
}

func ret(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
