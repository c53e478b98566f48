// Package freeport chooses ports for tests: for those of the packages as for those of e2e.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Choose returns a port that is free on every address for TCP and UDP, and is given to nobody else until the test ends.
//
// It is below the range from which the kernel takes the ports of outgoing connections: one that the kernel chose would
// be free now, and taken by some connection of a load before the test's server binds it. An abstract socket's name
// keeps tests in other processes from choosing the same; it is gone with this process.
func Choose(t testing.TB) int {
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

// isFree says whether anybody may bind the port, also without SO_REUSEADDR, which Go's listeners set: a connection in TIME_WAIT
// of a server that had not set it keeps others out for a minute.
func isFree(port int) bool {
	// Every address: holdfast may be told to listen on all, and IPv6 as well.
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		if !binds(unix.AF_INET, kind, &unix.SockaddrInet4{Port: port}) || !binds(unix.AF_INET6, kind, &unix.SockaddrInet6{Port: port}) {
			return false
		}
	}
	return true
}

func binds(family, kind int, address unix.Sockaddr) bool {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return family == unix.AF_INET6 // there is none here
	}
	defer unix.Close(fd)
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return false
		}
	}
	err = unix.Bind(fd, address)
	return err == nil || family == unix.AF_INET6 && err == unix.EADDRNOTAVAIL
}
