package freeport

import (
	"net"
	"testing"
)

func TestChoose(t *testing.T) {
	seen := map[int]bool{}
	for range 200 {
		p := Choose(t)
		if seen[p] || p >= ephemeral() {
			t.Fatalf("port %d, seen %t", p, seen[p])
		}
		seen[p] = true
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if isFree(ln.Addr().(*net.TCPAddr).Port) {
		t.Error("a port in use is free")
	}
}

// TestTimeWait: a port on which a connection is in TIME_WAIT can be bound by those that set SO_REUSEADDR alone.
func TestTimeWait(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	// Who closes first has it, once the other has closed, too.
	_ = server.Close()
	_, _ = client.Read(make([]byte, 1))
	_ = client.Close()
	_ = ln.Close()
	if isFree(port) {
		t.Error("a port with a connection in TIME_WAIT is free")
	}
}
