package port

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Classic BPF has no signed constants: these are linux/filter.h's SKF_NET_OFF and SKF_AD_OFF as unsigned words. A load at
// skfNet+N reads byte N of the network header. (A plain offset would read the payload: the kernel pulls the transport
// header away before it runs the program, run_bpf_filter in net/core/sock_reuseport.c.)
const (
	skfNet      = 0xfff00000
	skfProtocol = 0xfffff000      // SKF_AD_PROTOCOL: the EtherType in host order
	skfRXHash   = 0xfffff000 + 32 // SKF_AD_RXHASH: the flow hash of the packet, 0 where nothing computed one
)

// nobody is an index out of range: the kernel then falls back to its own hash over all members.
const nobody = 0xffffffff

// A route sends what comes from one source to one member of the group.
type route struct {
	from  netip.AddrPort // IPv4 addresses are plain, not mapped into IPv6
	index int
}

// program makes the switch: packets from a route's source go to its member, all others to the live members (by a hash
// over the flow where there are several). Every jump stays within its own few instructions, so that the 8 bits of a
// classic jump offset are enough whatever the length.
func program(live []int, routes []route) []unix.SockFilter {
	var p []unix.SockFilter
	for _, r := range routes {
		if r.from.Addr().Is4() {
			p = append(p, fromIPv4(r)...)
		} else {
			p = append(p, fromIPv6(r)...)
		}
	}
	switch len(live) {
	case 0:
		return append(p, ret(nobody))
	case 1:
		return append(p, ret(uint32(live[0])))
	default:
		return append(p, spread(live)...)
	}
}

func fromIPv4(r route) []unix.SockFilter {
	return guarded(uint32(r.index), []check{
		{load: []unix.SockFilter{load(unix.BPF_W, skfProtocol)}, want: unix.ETH_P_IP},
		{load: []unix.SockFilter{load(unix.BPF_W, skfNet+12)}, want: word(r.from.Addr().AsSlice())},
		{load: portIPv4(), want: uint32(r.from.Port())},
	})
}

func fromIPv6(r route) []unix.SockFilter {
	checks := []check{{load: []unix.SockFilter{load(unix.BPF_W, skfProtocol)}, want: unix.ETH_P_IPV6}}
	addr := r.from.Addr().AsSlice()
	for i := uint32(0); i < 16; i += 4 {
		checks = append(checks, check{load: []unix.SockFilter{load(unix.BPF_W, skfNet+8+i)}, want: word(addr[i:])})
	}
	checks = append(checks, check{load: portIPv6(), want: uint32(r.from.Port())})
	return guarded(uint32(r.index), checks)
}

// portIPv4 loads the source port behind an IPv4 header of whatever length.
func portIPv4() []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, K: skfNet},
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_IND, K: skfNet},
	}
}

// portIPv6 loads the source port behind an IPv6 header without extensions: holdfast's probes have none.
func portIPv6() []unix.SockFilter { return []unix.SockFilter{load(unix.BPF_H, skfNet+40)} }

// spread chooses among several live members by (flow hash + source port), mixed: the flow hash alone is 0 on devices that
// compute none, and the ephemeral ports of Linux clients are mostly of one parity.
func spread(live []int) []unix.SockFilter {
	p := []unix.SockFilter{load(unix.BPF_W, skfProtocol), jumpEqual(unix.ETH_P_IPV6, 0, 2)}
	p = append(p, portIPv6()...)
	p = append(p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: 2})
	p = append(p, portIPv4()...)
	p = append(p,
		unix.SockFilter{Code: unix.BPF_MISC | unix.BPF_TAX},
		load(unix.BPF_W, skfRXHash),
		unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_ADD | unix.BPF_X},
		alu(unix.BPF_MUL, 0x9e3779b1),
		alu(unix.BPF_RSH, 16),
		alu(unix.BPF_MOD, uint32(len(live))),
	)
	for i, index := range live[1:] {
		p = append(p, jumpEqual(uint32(i+1), 0, 1), ret(uint32(index)))
	}
	return append(p, ret(uint32(live[0])))
}

// A check is a load whose value must be want.
type check struct {
	load []unix.SockFilter
	want uint32
}

// guarded returns index if all checks hold, and else falls out of its end.
func guarded(index uint32, checks []check) []unix.SockFilter {
	length := 1
	for _, c := range checks {
		length += len(c.load) + 1
	}
	p := make([]unix.SockFilter, 0, length)
	for _, c := range checks {
		p = append(p, c.load...)
		p = append(p, jumpEqual(c.want, 0, uint8(length-len(p)-1)))
	}
	return append(p, ret(index))
}

func load(size uint16, at uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | size | unix.BPF_ABS, K: at}
}

func alu(op uint16, k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_ALU | op | unix.BPF_K, K: k}
}

func jumpEqual(k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: yes, Jf: no, K: k}
}

func ret(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }

// word is the first four bytes of b as the program's loads see them: in network order.
func word(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// attach makes prog the switch of the group that fd is in. fd may be any member; the group keeps the program when that
// member leaves (SO_ATTACH_REUSEPORT_CBPF, socket(7), Linux 4.5 for UDP and 4.6 for TCP).
func attach(fd int, prog []unix.SockFilter) error {
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &fprog)
}
