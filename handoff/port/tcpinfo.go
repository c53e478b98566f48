package port

import "golang.org/x/sys/unix"

// The states of a TCP socket in TCP_INFO that matter here (include/net/tcp_states.h).
const (
	stateFinWait2 = 5
	stateTimeWait = 6
	stateSynSent  = 2
	stateClose    = 7
	stateListen   = 10
	stateClosing  = 11
)

// listening says whether fd is a TCP listener; false when someone has shut it down.
func listening(fd int) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.State == stateListen
}

// acceptQueue is the length of a listener's accept queue and how many connections it takes. On a listening socket
// tcpi_unacked and tcpi_sacked bear these (tcp_get_info in net/ipv4/tcp.c, since Linux 2.6.24). The queue is full when
// length exceeds limit.
func acceptQueue(fd int) (length, limit int) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.State != stateListen {
		return 0, 0
	}
	return int(info.Unacked), int(info.Sacked)
}

// tcpState is the state of fd; 0 when it can't be read.
func tcpState(fd int) uint8 {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return info.State
}
