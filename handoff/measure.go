package handoff

import (
	"fmt"

	"holdfast/handoff/headroom"
	"holdfast/handoff/machine"
)

// measure compares what the live generation's processes hold with what the memory limit leaves: a second generation will
// need about as much. An OOM would kill the whole container (cgroup v2, memory.oom.group), the live generation with it.
// The kernel walks page tables for it: the loop does not wait. Where there is no limit, nobody looks who the processes are.
func (l *Loop) measure(g *generation) {
	l.measurement++
	mine := l.measurement
	post := func(f func()) {
		l.post(func() {
			if l.measurement == mine { // else of a handoff that has ended since
				f()
			}
		})
	}
	go func() {
		room, limited := headroom.Find("/")
		post(func() {
			if !limited {
				l.measured(g, "", nil)
				return
			}
			l.census(func(s seen) {
				var pids []int
				for _, p := range s.ofAny(g) {
					pids = append(pids, p.PID)
				}
				go func() {
					tight, err := tightness(room, pids)
					post(func() { l.measured(g, tight, err) })
				}()
			})
		})
	}()
}

// measured takes note of why a second generation would not fit; "" = it would.
func (l *Loop) measured(g *generation, tight string, err error) {
	if err != nil {
		l.log.Warn("cannot see whether a second generation fits the memory limit", "err", err)
	}
	if l.tight = tight; tight == "" {
		l.feed(machine.Event{Kind: machine.Fits, Gen: g.number})
		return
	}
	l.log.Warn("a second generation may not fit the memory limit", "generation", g.number, "reason", tight)
	l.feed(machine.Event{Kind: machine.Tight, Gen: g.number, Reason: tight})
}

// tightness says why a second generation of such processes would not fit; "" = it would, as far as can be seen.
func tightness(room headroom.Room, pids []int) (string, error) {
	need, err := headroom.Use("/", pids)
	if err != nil || need <= room.Left {
		return "", err
	}
	return fmt.Sprintf("a second generation needs about %s, as the live one does, and of the memory limit of %s (%s) %s are left",
		mebibytes(need), mebibytes(room.Limit), room.Cgroup, mebibytes(max(room.Left, 0))), nil
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<19)>>20) }
