package port

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// accepted makes a connection to a listener and returns the inode of the accepted end.
func accepted(t *testing.T, l *net.TCPListener) (client net.Conn, inode uint64) {
	t.Helper()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var stat unix.Stat_t
	if err := raw.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &stat) }); err != nil {
		t.Fatal(err)
	}
	return client, stat.Ino
}

// TestEstablished: the accepted ends of connections to the ports that are asked for, of IPv4 and IPv6, half closed or not.
func TestEstablished(t *testing.T) {
	numbers := map[uint64]bool{}
	var want []uint64
	expect := func(what string) {
		t.Helper()
		got, err := Established(numbers)
		if errors.Is(err, unix.ENOENT) {
			t.Skip("this kernel has no tcp_diag, or may not load it")
		}
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	expect("of no port")
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", "[::]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			if address == "[::1]:0" {
				continue // no IPv6 here
			}
			t.Fatal(err)
		}
		defer l.Close()
		tcp := l.(*net.TCPListener)
		numbers[uint64(tcp.Addr().(*net.TCPAddr).Port)] = true
		expect(address + " without connections")
		for range 200 { // more than one datagram tells of
			_, inode := accepted(t, tcp)
			want = append(want, inode)
		}
		client, inode := accepted(t, tcp)
		want = append(want, inode)
		if err := client.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		expect(address)
	}
	numbers, want = map[uint64]bool{1: true}, nil // tcpmux: nobody's
	expect("of another port")
}

func message(kind uint16, rest ...byte) []byte {
	b := make([]byte, netlinkHeader, netlinkHeader+len(rest))
	binary.NativeEndian.PutUint32(b, uint32(netlinkHeader+len(rest)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	return append(b, rest...)
}

func connection(port uint16, inode uint32) []byte {
	b := message(sockDiagByFamily, make([]byte, inetMessage-netlinkHeader)...)
	binary.BigEndian.PutUint16(b[atSource:], port)
	binary.NativeEndian.PutUint32(b[atInode:], inode)
	return b
}

func code(n int32) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(n)) }

func TestParseEstablished(t *testing.T) {
	one := connection(80, 7)
	for name, c := range map[string]struct {
		b    []byte
		want string
		done bool
		err  error
	}{
		"one":              {one, "[7]", false, nil},
		"two, and the end": {slices.Concat(one, connection(80, 8), message(unix.NLMSG_DONE, code(0)...)), "[7 8]", true, nil},
		"another port":     {slices.Concat(connection(81, 6), one), "[7]", false, nil},
		"nothing":          {nil, "[]", false, nil},
		"of another kind":  {slices.Concat(message(unix.NLMSG_NOOP), one), "[7]", false, nil},
		"refused":          {message(unix.NLMSG_ERROR, code(-int32(unix.ENOENT))...), "[]", false, unix.ENOENT},
		"broken off":       {slices.Concat(one, message(unix.NLMSG_DONE, code(-int32(unix.ENOMEM))...)), "[7]", false, unix.ENOMEM},
		"cut":              {one[:40], "[]", false, errCut},
		"cut in itself":    {message(sockDiagByFamily, make([]byte, 20)...), "[]", false, errCut},
		"of no length":     {make([]byte, 100), "[]", false, errCut},
	} {
		got, done, err := parseEstablished(c.b, map[uint64]bool{80: true}, nil)
		if fmt.Sprint(got) != c.want || done != c.done || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v, %v; want %s, %v, %v", name, got, done, err, c.want, c.done, c.err)
		}
	}
}

func FuzzParseEstablished(f *testing.F) {
	f.Add(slices.Concat(connection(80, 7), connection(443, 8)[:50]))
	f.Add(message(unix.NLMSG_DONE))
	f.Add(message(unix.NLMSG_ERROR, 1, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, _, _ := parseEstablished(b, map[uint64]bool{80: true}, nil)
		if len(got) > len(b)/inetMessage {
			t.Errorf("%d connections in %d bytes", len(got), len(b))
		}
	})
}
