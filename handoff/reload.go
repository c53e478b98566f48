package handoff

import (
	"context"
	"fmt"

	"holdfast/handoff/machine"
	"holdfast/handoff/status"
)

// waiter waits for the handoff that answers its ticket.
type waiter struct {
	ticket uint64
	result chan waiterResult
}

type waiterResult struct{ Result, Reason string }

// NotCompletedError says how a handoff ended that did not complete, and why.
type NotCompletedError struct{ Result, Reason string }

func (e *NotCompletedError) Error() string { return fmt.Sprintf("handoff %s: %s", e.Result, e.Reason) }

// Reload asks for a handoff. With wait it returns when the one that began after the asking has ended, with a
// NotCompletedError if it did not complete; without, as soon as it has been asked for.
func (l *Loop) Reload(ctx context.Context, wait bool) error {
	result := make(chan waiterResult, 1)
	l.post(func() {
		ticket := l.machine.Tickets + 1
		if wait {
			l.waiters = append(l.waiters, waiter{ticket, result})
		} else {
			result <- waiterResult{Result: status.Completed}
		}
		l.feed(machine.Event{Kind: machine.Trigger, Why: "command"})
	})
	select {
	case r := <-result:
		if r.Result != status.Completed {
			return &NotCompletedError{Result: r.Result, Reason: r.Reason}
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.done:
		return &NotCompletedError{Result: status.Abandoned, Reason: "holdfast has exited"}
	}
}

// answer tells everybody whose ticket the handoff that has just ended covers; not before the snapshot says so, too.
func (l *Loop) answer(r waiterResult, through uint64) {
	var left []waiter
	for _, w := range l.waiters {
		if w.ticket > through {
			left = append(left, w)
			continue
		}
		l.answers = append(l.answers, func() { w.result <- r })
	}
	l.waiters = left
}

func (l *Loop) giveAnswers() {
	for _, give := range l.answers {
		give()
	}
	l.answers = nil
}
