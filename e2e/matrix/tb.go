package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// tb is the testing.TB of one row outside of go test: the harness and the measuring are the tests' own, and a row that
// fails must not end the others. Only what they use is there; anything else would panic, and fail the row as well.
type tb struct {
	testing.TB // nil: it is there for the interface's unexported method

	ctx     context.Context
	mu      sync.Mutex
	failed  bool
	said    []string
	cleanup []func()
}

// run calls f and returns what it complained of; "" when it did not.
func run(ctx context.Context, f func(testing.TB)) string {
	ctx, cancel := context.WithCancel(ctx)
	t := &tb{ctx: ctx}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer t.end()
		defer cancel()
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("panic: %v", p)
			}
		}()
		f(t)
	}()
	<-done
	if !t.failed {
		return ""
	}
	return strings.Join(t.said, "\n")
}

// end runs the cleanups, the last one first.
func (t *tb) end() {
	for i := len(t.cleanup) - 1; i >= 0; i-- {
		t.cleanup[i]()
	}
}

func (t *tb) Helper()                  {}
func (t *tb) Name() string             { return "matrix" }
func (t *tb) Context() context.Context { return t.ctx }
func (t *tb) Cleanup(f func())         { t.cleanup = append(t.cleanup, f) }

func (t *tb) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

func (t *tb) say(fails bool, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = t.failed || fails
	t.said = append(t.said, text)
}

func (t *tb) Log(args ...any)                   { t.say(false, fmt.Sprint(args...)) }
func (t *tb) Logf(format string, args ...any)   { t.say(false, fmt.Sprintf(format, args...)) }
func (t *tb) Error(args ...any)                 { t.say(true, fmt.Sprint(args...)) }
func (t *tb) Errorf(format string, args ...any) { t.say(true, fmt.Sprintf(format, args...)) }

func (t *tb) Fatal(args ...any) {
	t.Error(args...)
	runtime.Goexit()
}

func (t *tb) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}
