package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
)

// FreePort returns a port of 127.0.0.1 that is free for TCP and UDP, and is given to nobody else until the test ends.
//
// It is below the range from which the kernel takes the ports of outgoing connections: one that the kernel chose would
// be free now, and taken by some connection of a load before the test's server binds it. An abstract socket's name
// keeps tests in other processes from choosing the same; it is gone with this process.
func FreePort(t testing.TB) int {
	t.Helper()
	const low = 10_000
	high := ephemeral()
	for range 2000 {
		port := low + rand.IntN(high-low)
		claim, err := net.Listen("unix", fmt.Sprintf("@holdfast-e2e-port-%d", port))
		if err != nil {
			continue
		}
		if !isFree(port) {
			_ = claim.Close()
			continue
		}
		t.Cleanup(func() { _ = claim.Close() })
		return port
	}
	t.Fatal("no free port")
	return 0
}

// ephemeral is where the kernel's own choice of ports begins.
func ephemeral() int {
	b, _ := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	f := strings.Fields(string(b))
	if len(f) == 2 {
		if first, err := strconv.Atoi(f[0]); err == nil && first > 12_000 {
			return first
		}
	}
	return 32_768
}

func isFree(port int) bool {
	// Every address: holdfast may be told to listen on all, and IPv6 as well.
	addr := ":" + strconv.Itoa(port)
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	_ = ln.Close()
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	_ = pc.Close()
	return true
}
