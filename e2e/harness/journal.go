package harness

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
)

// maxLines bounds what is kept of an output; the oldest lines go first.
const maxLines = 50_000

// journal keeps what a process writes, line by line, and wakes those who wait for a line.
type journal struct {
	mu      sync.Mutex
	start   time.Time
	lines   []line
	dropped int
	changed chan struct{} // closed and replaced at each change
	ended   bool
}

type line struct {
	at     time.Duration
	stream string
	text   string
}

func newJournal() *journal {
	return &journal{start: time.Now(), changed: make(chan struct{})}
}

// stream is the writer for one of the process's outputs. Each has a single writing goroutine.
func (j *journal) stream(name string) *stream { return &stream{journal: j, name: name} }

type stream struct {
	journal *journal
	name    string
	partial []byte
}

func (s *stream) Write(b []byte) (int, error) {
	s.partial = append(s.partial, b...)
	for {
		text, rest, ok := bytes.Cut(s.partial, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		s.journal.add(s.name, string(text))
		s.partial = rest
	}
}

func (j *journal) add(stream, text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.lines) == maxLines {
		j.lines = append(j.lines[:0], j.lines[maxLines/2:]...)
		j.dropped += maxLines / 2
	}
	j.lines = append(j.lines, line{time.Since(j.start), stream, text})
	j.wake()
}

func (j *journal) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ended = true
	j.wake()
}

func (j *journal) wake() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// find looks for the first line from number `from` on that matches.
func (j *journal) find(from int, re *regexp.Regexp) (text string, next int, found, ended bool, changed <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := max(from-j.dropped, 0); i < len(j.lines); i++ {
		if re.MatchString(j.lines[i].text) {
			return j.lines[i].text, j.dropped + i + 1, true, j.ended, j.changed
		}
	}
	return "", j.dropped + len(j.lines), false, j.ended, j.changed
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b strings.Builder
	if j.dropped > 0 {
		fmt.Fprintf(&b, "(%d lines dropped)\n", j.dropped)
	}
	for _, l := range j.lines {
		fmt.Fprintf(&b, "%9.4fs %s: %s\n", l.at.Seconds(), l.stream, l.text)
	}
	return b.String()
}

// Log is everything holdfast and its descendants wrote, each line with when it came and on which stream.
func (h *Holdfast) Log() string { return h.log.String() }

// Mark is a place in the output: WaitLogAfter looks only at what comes after it.
func (h *Holdfast) Mark() int {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	return h.log.dropped + len(h.log.lines)
}

// WaitLog waits for a line that matches the regular expression, from the start on, and returns it.
func (h *Holdfast) WaitLog(pattern string, within time.Duration) string {
	h.t.Helper()
	return h.WaitLogAfter(0, pattern, within)
}

// WaitLogAfter is WaitLog for the lines after mark.
func (h *Holdfast) WaitLogAfter(mark int, pattern string, within time.Duration) string {
	h.t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(within)
	for {
		text, next, found, ended, changed := h.log.find(mark, re)
		if found {
			return text
		}
		if ended {
			h.t.Fatalf("holdfast has ended without a line that matches %q", pattern)
		}
		mark = next
		select {
		case <-changed:
		case <-timeout:
			h.t.Fatalf("no line matches %q within %v", pattern, within)
		}
	}
}

// CountLog counts the lines so far that match.
func (h *Holdfast) CountLog(pattern string) int {
	re := regexp.MustCompile(pattern)
	n := 0
	for from := 0; ; n++ {
		_, next, found, _, _ := h.log.find(from, re)
		if !found {
			return n
		}
		from = next
	}
}
