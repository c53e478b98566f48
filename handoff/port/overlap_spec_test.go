package port

import (
	"slices"
	"testing"
)

// TestCovers: rows cover columns.
func TestCovers(t *testing.T) {
	all := []string{"127.0.0.1:80", "0.0.0.0:80", "[::1]:80", "[::]:80", ":80", "127.0.0.1:81", "udp://127.0.0.1:80", "unix:///run/s"}
	covered := map[string][]string{
		"0.0.0.0:80": {"127.0.0.1:80"},
		"[::]:80":    {"[::1]:80"},
		":80":        {"127.0.0.1:80", "0.0.0.0:80", "[::1]:80", "[::]:80"},
	}
	spec := func(s string) Spec {
		spec, err := ParseSpec(s)
		must(t, err)
		return spec
	}
	for _, a := range all {
		for _, b := range all {
			if got, want := spec(a).Covers(spec(b)), a == b || slices.Contains(covered[a], b); got != want {
				t.Errorf("%s covers %s: %t, want %t", a, b, got, want)
			}
			want := a != b && (slices.Contains(covered[a], b) || slices.Contains(covered[b], a))
			if got := spec(a).Overlaps(spec(b)); got != want {
				t.Errorf("%s overlaps %s: %t, want %t", a, b, got, want)
			}
		}
	}
}
