package control

import (
	"fmt"
	"strings"
	"testing"
)

// FuzzParseTable: /proc/net/unix holds names that anybody may have chosen.
func FuzzParseTable(f *testing.F) {
	const head = "Num       RefCount Protocol Flags    Type St Inode Path\n"
	const line = "ffff888100000000: 00000002 00000000 00010000 0001 01 %d %s\n"
	f.Add([]byte(head+fmt.Sprintf(line, 1, "@holdfast/7/1")+fmt.Sprintf(line, 2, "@holdfast/7/x")), "@holdfast/7/")
	f.Add([]byte(fmt.Sprintf(line, 3, "@holdfast/7/-1")+fmt.Sprintf(line, 3, "@holdfast/7/99999999999999999999")), "@holdfast/7/")
	f.Fuzz(func(t *testing.T, table []byte, prefix string) {
		for i, pid := range parse(table, prefix) {
			if pid <= 0 || !strings.Contains(string(table), prefix) || i > len(table) {
				t.Errorf("%q: pid %d of %q", table, pid, prefix)
			}
		}
	})
}
