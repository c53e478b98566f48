package reaper_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/reaper"
)

// smallPipe returns a pipe that takes one page.
func smallPipe(t *testing.T) (read, write int) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, os.Getpagesize()); err != nil {
		t.Fatal(err)
	}
	return fds[0], fds[1]
}

// within fails if f does not return soon.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: it waits", what)
	}
}

// TestStderrSlowReader: a reader that does not read holds nobody up, and learns later how many lines it has missed.
func TestStderrSlowReader(t *testing.T) {
	read, write := smallPipe(t)
	s := reaper.NewStderr(write)
	const lines = 2000
	line := bytes.Repeat([]byte("x"), 99)
	within(t, "writing to a full pipe", func() {
		for range lines {
			if n, err := s.Write(append(line, '\n')); n != 100 || err != nil {
				t.Errorf("Write = %d, %v", n, err)
			}
		}
	})
	all := make(chan string)
	go func() {
		b, _ := io.ReadAll(os.NewFile(uintptr(read), "read"))
		all <- string(b)
	}()
	s.Close(patience)
	unix.Close(write)
	var arrived, lost int
	for _, l := range strings.Split(strings.TrimSuffix(<-all, "\n"), "\n") {
		var n int
		if _, err := fmt.Sscanf(l, "holdfast: %d log lines were lost", &n); err == nil {
			lost += n
		} else if l == string(line) {
			arrived++
		} else {
			t.Fatalf("a line is not whole: %q", l)
		}
	}
	if lost == 0 || arrived+lost != lines {
		t.Errorf("%d lines arrived and %d were said to be lost, want %d together", arrived, lost, lines)
	}
}

// TestStderrNoReader: a reader that is gone ends nothing and holds nothing up.
func TestStderrNoReader(t *testing.T) {
	read, write := smallPipe(t)
	unix.Close(read)
	s := reaper.NewStderr(write)
	within(t, "writing to nobody", func() {
		for range 100 {
			_, _ = s.Write([]byte("line\n"))
		}
		s.Close(patience)
	})
	unix.Close(write)
}

// TestStderrStuckReader: Close gives up.
func TestStderrStuckReader(t *testing.T) {
	read, write := smallPipe(t)
	s := reaper.NewStderr(write)
	_, _ = s.Write(bytes.Repeat([]byte("x"), 2*os.Getpagesize()))
	within(t, "closing", func() { s.Close(time.Millisecond) })
	unix.Close(read) // ends the goroutine
}

// TestStderrNonBlocking: somebody who shares the descriptor has made it non-blocking; what does not fit at once waits.
func TestStderrNonBlocking(t *testing.T) {
	read, write := smallPipe(t)
	if err := unix.SetNonblock(write, true); err != nil {
		t.Fatal(err)
	}
	s := reaper.NewStderr(write)
	var want bytes.Buffer
	for i := range 300 {
		length := 200
		if i%100 == 50 {
			length = 3 * os.Getpagesize() // the kernel may take a part of it
		}
		line := fmt.Appendf(nil, "%d %s\n", i, strings.Repeat("y", length))
		want.Write(line)
		_, _ = s.Write(line)
	}
	all := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(os.NewFile(uintptr(read), "read"))
		all <- b
	}()
	s.Close(patience)
	unix.Close(write)
	if got := <-all; !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d bytes arrived, want %d, the same", len(got), want.Len())
	}
}

// TestStderrAfterClose: goroutines that still log while the process ends must not end it otherwise.
func TestStderrAfterClose(t *testing.T) {
	read, write := smallPipe(t)
	go func() { _, _ = io.Copy(io.Discard, os.NewFile(uintptr(read), "read")) }()
	s := reaper.NewStderr(write)
	var writers sync.WaitGroup
	started := make(chan struct{})
	for i := range 4 {
		writers.Go(func() {
			for n := range 5000 {
				_, _ = s.Write([]byte("line\n"))
				if i == 0 && n == 100 {
					close(started)
				}
			}
		})
	}
	<-started
	s.Close(patience)
	s.Close(patience)
	writers.Wait()
	if n, err := s.Write([]byte("late")); n != 4 || err != nil {
		t.Errorf("Write after Close = %d, %v", n, err)
	}
	unix.Close(write)
}
