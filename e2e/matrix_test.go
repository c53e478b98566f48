package e2e

import (
	"slices"
	"testing"

	"holdfast/e2e/matrix/measure"
	"holdfast/e2e/matrix/table"
)

// TestMatrix is a small part of "make servers" (docs/servers.md): six servers in their stock configurations, three handoffs
// each, with a socket for each worker, a unix path, datagrams, and the sequential strategy among them.
func TestMatrix(t *testing.T) {
	needPID1(t)
	two := make(chan struct{}, 2) // at once, or they would slow one another down
	all := table.All()
	for _, name := range []string{"nginx-reuseport", "haproxy", "php-fpm-unix", "memcached", "unbound", "knot"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			two <- struct{}{}
			t.Cleanup(func() { <-two })
			i := slices.IndexFunc(all, func(r table.Row) bool { return r.Name == name })
			if i < 0 {
				t.Fatal("no such row")
			}
			f, _ := measure.Try(t, all[i], 3, false)
			t.Logf("%+v", f)
			if f.New.Requests < 100 || f.Kept.Requests < 100 {
				t.Errorf("only %d and %d requests: that shows nothing", f.New.Requests, f.Kept.Requests)
			}
			if f.New.Lost() > 0 || f.Kept.Lost() > 0 {
				t.Errorf("lost: %+v", f.Failures)
			}
			for _, m := range f.Misled {
				t.Error(m)
			}
		})
	}
}
