package handoff

import (
	"time"

	"holdfast/reaper"
)

const (
	neglectEvery = time.Minute     // between two looks for negligent processes, at most as often as children are reaped
	neglectLasts = 5 * time.Second // a zombie that old has been left
)

// neglect is what is known of processes that do not wait for their children.
type neglect struct {
	looked  time.Time
	looking bool
	told    map[int]bool // by pid
}

// lookForNeglect tells of processes that leave zombies behind, since an init is blamed for them and can do nothing. It is
// called when children were reaped, and so wakes nobody up. Reading /proc takes its time: the loop does not wait for it.
func (l *Loop) lookForNeglect() {
	n := &l.neglect
	if n.looking || !n.looked.IsZero() && l.now().Sub(n.looked) < neglectEvery {
		return
	}
	n.looked, n.looking = l.now(), true
	go func() {
		first, err := reaper.Look(l.reaper.PID())
		l.post(func() {
			if err != nil || len(first) == 0 {
				n.looking = false
				return
			}
			l.after(neglectLasts, func() { go l.lookForLasting(first) })
		})
	}()
}

// lookForLasting looks once more for what was found before.
func (l *Loop) lookForLasting(first []reaper.Neglect) {
	now, err := reaper.Look(l.reaper.PID())
	l.post(func() {
		l.neglect.looking = false
		if err == nil {
			l.tellNeglect(reaper.Lasting(first, now))
		}
	})
}

func (l *Loop) tellNeglect(all []reaper.Neglect) {
	told := make(map[int]bool, len(all))
	for _, n := range all {
		if told[n.PID] = true; !l.neglect.told[n.PID] {
			l.log.Warn("a process leaves zombies behind: it is alive and does not wait for its children, and nobody else can",
				"pid", n.PID, "command", n.Command, "zombies", n.Zombies)
		}
	}
	l.neglect.told = told
}
