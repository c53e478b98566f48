package trigger

import (
	"strings"
	"testing"
)

// FuzzParseMounts: a mount is known by its point, and nothing is made up.
func FuzzParseMounts(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n")
	f.Add("1 2 0:1 /a\\040b/..2026 /etc/app\\134x rw - tmpfs tmpfs rw\n\\\n1 2 3 \\777 \\08 x\n")
	f.Fuzz(func(t *testing.T, text string) {
		for point, m := range parseMounts(strings.NewReader(text)) {
			if point != m.point || len(m.point) > len(text) || len(m.root) > len(text) {
				t.Errorf("%q: %q is %+v", text, point, m)
			}
			_ = mountWarning(m, true)
		}
	})
}
