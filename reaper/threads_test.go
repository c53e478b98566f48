package reaper

import (
	"os"
	"runtime"
	"testing"
)

// TestSpareThreads: they are there afterwards, whatever there was before.
func TestSpareThreads(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	SpareThreads(20)
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	if len(threads) < 20 {
		t.Errorf("%d threads, want 20 or more", len(threads))
	}
}
