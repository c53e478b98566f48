package chaos

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// halfOpen connects some clients that never make a whole request: they say nothing, or a part, end their half at once, or
// reset the connection when it is over.
func (l *lane) halfOpen(d disturbance) error {
	for i := range 8 {
		conn, err := net.DialTimeout("tcp", l.address(), patience)
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		defer conn.Close()
		tcp := conn.(*net.TCPConn)
		switch i % 4 {
		case 1:
			_, _ = tcp.Write([]byte("GET / HTT"))
		case 2:
			_ = tcp.CloseWrite()
		case 3:
			_ = tcp.SetLinger(0)
			_, _ = tcp.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n"))
		}
	}
	time.Sleep(2 * d.lasts)
	return nil
}

// unfinished sends SYNs from where no answer arrives: each leaves a half-open connection in the kernel.
func (l *lane) unfinished() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("open a raw socket: %w", err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	for i := range 200 {
		source := [4]byte{198, 51, 100, byte(1 + i)}
		if err := unix.Sendto(fd, syn(source, uint16(20_000+rand.IntN(40_000)), to.Addr, uint16(l.port)), 0, to); err != nil {
			return fmt.Errorf("send a SYN: %w", err)
		}
	}
	if inState(l.port, "03") == 0 {
		return fmt.Errorf("no handshake is unfinished: that shows nothing")
	}
	return nil
}

// syn is an IPv4 packet with nothing but a TCP SYN (RFC 791, RFC 9293).
func syn(source [4]byte, from uint16, dest [4]byte, to uint16) []byte {
	const ip, tcp = 20, 20
	b := make([]byte, ip+tcp)
	b[0] = 4<<4 | ip/4
	binary.BigEndian.PutUint16(b[2:], ip+tcp)
	b[8], b[9] = 64, unix.IPPROTO_TCP
	copy(b[12:], source[:])
	copy(b[16:], dest[:])
	h := b[ip:]
	binary.BigEndian.PutUint16(h, from)
	binary.BigEndian.PutUint16(h[2:], to)
	binary.BigEndian.PutUint32(h[4:], rand.Uint32())
	h[12], h[13] = tcp/4<<4, 0x02
	binary.BigEndian.PutUint16(h[14:], 65_535)
	pseudo := append(append(append([]byte{}, source[:]...), dest[:]...), 0, unix.IPPROTO_TCP, 0, tcp)
	binary.BigEndian.PutUint16(h[16:], checksum(append(pseudo, h...)))
	binary.BigEndian.PutUint16(b[10:], checksum(b[:ip]))
	return b
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
