// Package witness builds the program that stands on both sides of an init and says when what happened.
package witness

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

//go:embed src/witness.c
var source []byte

// Build compiles it into dir and returns its path.
func Build(dir string) (string, error) {
	path := filepath.Join(dir, "witness")
	cmd := exec.Command("gcc", "-O2", "-static", "-Wall", "-Wextra", "-x", "c", "-o", path, "-")
	cmd.Stdin = bytes.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile the witness: %w: %s (e2e/deps.sh gcc libc)", err, out)
	}
	return path, nil
}

// A Log collects what a witness writes, line by line: it is an io.Writer.
type Log struct {
	mu    sync.Mutex
	text  []byte
	lines []line
}

type line struct {
	word string
	at   time.Duration
}

// Write takes what comes in any pieces.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	for {
		one, rest, ok := bytes.Cut(l.text, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		word, at, _ := strings.Cut(string(one), " ")
		if ns, err := strconv.ParseInt(at, 10, 64); err == nil {
			l.lines = append(l.lines, line{word, time.Duration(ns)})
		}
		l.text = bytes.Clone(rest)
	}
}

// ErrSilent is why Wait gives up.
var ErrSilent = errors.New("the witness has not said it")

// Wait returns when the n-th word was said (0 = the first time), by CLOCK_MONOTONIC.
func (l *Log) Wait(word string, n int, within time.Duration) (time.Duration, error) {
	for end := time.Now().Add(within); ; time.Sleep(200 * time.Microsecond) {
		if at, ok := l.find(word, n); ok {
			return at, nil
		}
		if time.Now().After(end) {
			return 0, fmt.Errorf("%q within %v: %w", word, within, ErrSilent)
		}
	}
}

func (l *Log) find(word string, n int) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range l.lines {
		if one.word == word {
			if n == 0 {
				return one.at, true
			}
			n--
		}
	}
	return 0, false
}
