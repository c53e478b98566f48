package handoff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"holdfast/handoff/activation"
	"holdfast/handoff/machine"
	"holdfast/handoff/takeover"
	"holdfast/reaper"
)

// launch is a program on its way from fork to execve(2).
type launch struct {
	pid     int
	told    chan struct{} // closed when the program runs, or never will
	failure string        // why it does not; to be read after told is closed
}

// spawn starts c, whose Report it makes.
func (l *Loop) spawn(c reaper.Command) (*launch, error) {
	read, write, err := pipe()
	if err != nil {
		return nil, err
	}
	defer unix.Close(write)
	c.Report = write
	pid, err := l.reaper.Start(c)
	if err != nil {
		read.Close()
		return nil, err
	}
	la := &launch{pid: pid, told: make(chan struct{})}
	go func() {
		defer close(la.told)
		defer read.Close()
		report, _ := io.ReadAll(io.LimitReader(read, 4096))
		if err := takeover.Explain(c.Outcome(report)); err != nil {
			la.failure = err.Error()
		}
	}()
	return la, nil
}

// pipe returns a close-on-exec pipe: the end to read from as a file that the netpoller watches, the one to write to as
// a blocking descriptor that is the caller's to close.
func pipe() (read *os.File, write int, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, -1, fmt.Errorf("make a pipe: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, -1, fmt.Errorf("make a pipe: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "pipe"), fds[1], nil
}

// task is a running check or exec command.
type task struct {
	launch *launch
	output *tail
	read   *os.File
	end    func(error) // called once, in the loop's goroutine
}

// outputIn is how long the rest of a command's output may take to arrive after its exit. A daemon that it has left behind
// may hold the pipe for ever.
const outputIn = 100 * time.Millisecond

// run starts a command and calls end with nil when it has exited 0.
//
// The binds of a private command touch no real port.
func (l *Loop) run(command, env []string, private bool, end func(error)) (*task, error) {
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		null = 0
	} else {
		defer unix.Close(null)
	}
	read, write, err := pipe()
	if err != nil {
		return nil, err
	}
	defer unix.Close(write)
	c := reaper.Command{Argv: command, Env: env, Files: []int{null, write, write}, Terminal: -1}
	var holder *os.File
	if private {
		var done func()
		if holder, done, err = l.behindFilter(&c, takeover.FilterOptions{Unlinks: l.holdsPath()}); err != nil {
			read.Close()
			return nil, err
		}
		defer done()
	}
	la, err := l.spawn(c)
	if err != nil {
		read.Close()
		holder.Close()
		return nil, err
	}
	if holder != nil {
		go l.servePrivately(holder)
	}
	t := &task{launch: la, output: &tail{done: make(chan struct{})}, read: read, end: end}
	go t.output.copy(read)
	l.tasks[la.pid] = t
	return t, nil
}

// taskExited is called when the command's process has been reaped. The loop does not wait for the rest of its output.
func (l *Loop) taskExited(t *task, e reaper.Exit) {
	delete(l.tasks, e.PID)
	go func() {
		<-t.launch.told
		select {
		case <-t.output.done:
		case <-time.After(outputIn):
		}
		t.read.Close()
		l.post(func() { t.end(t.outcome(e)) })
	}()
}

func (t *task) outcome(e reaper.Exit) error {
	switch {
	case t.launch.failure != "":
		return errors.New(t.launch.failure)
	case e.Code() != 0:
		return fmt.Errorf("%s%s", e, t.output)
	}
	return nil
}

// killTask ends a task with all of its process group; its end is still reported.
func (l *Loop) killTask(t *task) {
	if _, running := l.tasks[t.launch.pid]; running {
		l.reaper.Signal(t.launch.pid, syscall.SIGKILL, true)
		l.reaper.Signal(t.launch.pid, syscall.SIGKILL, false) // it may have left its group
	}
}

// tail keeps the end of an output.
type tail struct {
	mu   sync.Mutex
	text []byte
	done chan struct{}
}

// tailLength is how much of an output is kept, in bytes.
const tailLength = 1024

func (t *tail) copy(r io.Reader) {
	defer close(t.done)
	b := make([]byte, 4096)
	for {
		n, err := r.Read(b)
		t.mu.Lock()
		t.text = append(t.text, b[:n]...)
		t.text = bytes.Clone(t.text[max(0, len(t.text)-tailLength):])
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// String returns the last lines as one: ": line | line".
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.FieldsFunc(strings.ToValidUTF8(string(t.text), "?"), func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) == 0 {
		return ""
	}
	return ": " + strings.Map(harmless, strings.Join(lines[max(0, len(lines)-5):], " | "))
}

// harmless keeps what a program has written from doing more on a terminal than to be read there.
func harmless(r rune) rune {
	if r != '\t' && !unicode.IsPrint(r) {
		return '?'
	}
	return r
}

// runCheck runs the check command, bounded by the ready timeout, for what generation n is to be told; 0 = for the next
// generation.
func (l *Loop) runCheck(n int) {
	if n == 0 {
		n = l.machine.Next + 1
		l.readConfig()
	}
	env, err := l.environment()
	if err != nil {
		l.follow(machine.Event{Kind: machine.CheckFailed, Reason: err.Error()})
		return
	}
	var mine *task
	var stop func()
	tooLong := false
	mine, err = l.run(l.o.Check, activation.Environ(env, nil, n, nil), true, func(err error) {
		stop()
		if l.check != mine {
			return
		}
		l.check = nil
		switch {
		case tooLong:
			l.feed(machine.Event{Kind: machine.CheckFailed, Reason: fmt.Sprintf("the check did not end within %v%s", l.o.ReadyTimeout, mine.output)})
		case err != nil:
			l.feed(machine.Event{Kind: machine.CheckFailed, Reason: fmt.Sprintf("the check failed: %v", err)})
		default:
			l.feed(machine.Event{Kind: machine.CheckPassed})
		}
	})
	if err != nil {
		l.follow(machine.Event{Kind: machine.CheckFailed, Reason: err.Error()})
		return
	}
	l.check = mine
	stop = l.after(l.o.ReadyTimeout, func() {
		tooLong = true
		l.killTask(mine)
	})
}

func (l *Loop) stopCheck() {
	if t := l.check; t != nil {
		l.check = nil
		l.killTask(t)
	}
}

// exec runs a command for readiness. It is called from the prover's goroutine.
func (l *Loop) exec(ctx context.Context, g *generation, command []string) error {
	ended := make(chan error, 1)
	var t *task
	l.post(func() {
		var err error
		if t, err = l.run(command, l.execEnvironment(g), false, func(err error) { ended <- err }); err != nil {
			ended <- err
		}
	})
	select {
	case err := <-ended:
		return err
	case <-l.done:
		return context.Canceled
	case <-ctx.Done():
		l.post(func() {
			if t != nil {
				l.killTask(t)
			}
		})
		return context.Cause(ctx)
	}
}

// execEnvironment is the generation's own, so that a probing script knows whom it asks about; less what tells of
// descriptors, which it does not get.
func (l *Loop) execEnvironment(g *generation) []string {
	env := activation.Environ(g.env, nil, g.number, nil)
	return activation.Merge(env, []string{fmt.Sprintf("HOLDFAST_GENERATION_PID=%d", g.pid)})
}
