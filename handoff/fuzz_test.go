package handoff

import "testing"

// FuzzParseConnection: a line of /proc/net/tcp counts only for a port that is asked for.
func FuzzParseConnection(f *testing.F) {
	f.Add("   1: 0100007F:1F90 0100007F:A3C2 01 00000000:00000000 00:00000000 00000000  1000        0 123456 1", uint16(8080))
	f.Add("   1: 00000000000000000000000001000000:0050 0:0 08 0:0 0:0 0 0 0 7", uint16(80))
	f.Add("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", uint16(1))
	f.Fuzz(func(t *testing.T, line string, number uint16) {
		inode, ok := parseConnection(line, map[uint64]bool{uint64(number): true})
		if ok && inode == "" {
			t.Errorf("%q: a connection without an inode", line)
		}
		if _, ok := parseConnection(line, nil); ok {
			t.Errorf("%q: of a port that nobody asked for", line)
		}
	})
}
