package main

import "testing"

func TestScreen(t *testing.T) {
	for _, c := range []struct {
		text          string
		rows, columns int
		want          string
	}{
		{"a\nb\n", 24, 80, "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n\x1b[J"},
		{"abcdé\n", 24, 3, "\x1b[Habc\x1b[K\r\n\x1b[J"},
		{"1\n2\n3\n4\n5\n", 4, 80, "\x1b[H1\x1b[K\r\n2\x1b[K\r\n… 3 more lines\x1b[K\r\n\x1b[J"},
		{"1\n2\n3\n", 4, 80, "\x1b[H1\x1b[K\r\n2\x1b[K\r\n3\x1b[K\r\n\x1b[J"},
		{"1\n2\n", 0, 0, "\x1b[H1\x1b[K\r\n2\x1b[K\r\n\x1b[J"},
	} {
		if got := screen(c.text, c.rows, c.columns); got != c.want {
			t.Errorf("screen(%q, %d, %d) = %q, want %q", c.text, c.rows, c.columns, got, c.want)
		}
	}
}
