package probes

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestWriteText(t *testing.T) {
	for name, src := range map[string]still{"fresh": fresh(), "steady": steady(), "busy": busy(), "ending": ending()} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := WriteText(&b, src.document(), at()); err != nil {
				t.Fatal(err)
			}
			golden(t, name+".golden", b.Bytes())
			for line := range bytes.Lines(b.Bytes()) {
				if n := len(bytes.TrimRight(line, "\n")); n > 128 {
					t.Errorf("a line is %d columns wide: %s", n, line)
				}
			}
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test -update, if it should):\n%s\nwant:\n%s", name, got, want)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestWriteTextReportsTheWriter(t *testing.T) {
	if err := WriteText(broken{}, steady().document(), at()); !errors.Is(err, os.ErrClosed) {
		t.Fatalf("got %v", err)
	}
}

func TestAges(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 59*time.Second + 999*time.Millisecond: "59s", time.Minute: "1m00s",
		185 * time.Second: "3m05s", time.Hour: "1h00m", 130*time.Minute + 59*time.Second: "2h10m", 103 * time.Hour: "4d07h",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%v) = %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-1: "0.0ms", 300 * time.Microsecond: "0.3ms", 12 * time.Millisecond: "12ms", 2390 * time.Millisecond: "2.3s", 61 * time.Second: "1m01s",
	} {
		if got := took(d); got != want {
			t.Errorf("took(%v) = %q, want %q", d, got, want)
		}
	}
}
