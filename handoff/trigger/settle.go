package trigger

import "time"

// minCap is the least time for which further changes may hold a report back.
const minCap = 10 * time.Second

// pending is a possible change that waits for quiet; the zero value means that there is none.
type pending struct {
	first, last time.Time // the first and the latest hint that something has changed
	notBefore   time.Time // where the random delay ends, once it is drawn
}

func (p pending) active() bool { return !p.first.IsZero() }

// touched is p after one more hint.
func (p pending) touched(now time.Time) pending {
	if !p.active() {
		p.first = now
	}
	p.last = now
	return p
}

// delayed is p once it has become quiet and its random delay has been drawn.
func (p pending) delayed(now time.Time, by time.Duration) pending {
	p.notBefore = now.Add(by)
	return p
}

// limit is the instant after which further hints don't hold p back. What comes during the random delay gets the same
// patience once more, counted from its end: nothing may be read while it is being written only because the delay is long.
func (p pending) limit(debounce time.Duration) time.Time {
	start := p.first
	if p.notBefore.After(start) {
		start = p.notBefore
	}
	return start.Add(max(10*debounce, minCap))
}

// due is when p is to be looked at.
func (p pending) due(debounce time.Duration) time.Time {
	at := p.last.Add(debounce)
	if limit := p.limit(debounce); at.After(limit) {
		at = limit
	}
	if at.Before(p.notBefore) {
		at = p.notBefore
	}
	return at
}

// verdict is what becomes of a pending change that is due and has been read.
type verdict int

const (
	drop   verdict = iota // it is what was reported already
	wait                  // it may still be changing
	delay                 // it is settled; the random delay begins
	report                // now
)

// sight is what the read at the due time has shown.
type sight struct {
	changed bool          // it differs from what was reported
	stable  bool          // nothing can have changed unnoticed for the whole quiet time
	jitter  time.Duration // the bound of the random delay
}

func (p pending) decide(s sight, now time.Time, debounce time.Duration) verdict {
	switch {
	case !s.changed:
		return drop
	case !s.stable && debounce > 0 && now.Before(p.limit(debounce)):
		return wait
	case s.jitter > 0 && p.notBefore.IsZero():
		return delay
	default:
		return report
	}
}
