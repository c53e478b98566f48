package load

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets of at most 1/32 relative width, so that a quantile is right to about 3% however
// many observations there are, in a fixed 12 KiB.
type histogram struct {
	buckets [buckets]uint64
	count   uint64
}

const (
	subBits = 5 // each power of two is divided in 1<<subBits
	maxBits = 40
	buckets = (maxBits - subBits + 1) << subBits
)

// observe counts d, to the microsecond.
func (h *histogram) observe(d time.Duration) {
	h.buckets[bucketOf(d)]++
	h.count++
}

func bucketOf(d time.Duration) int {
	us := uint64(max(d, 0) / time.Microsecond)
	if us < 1<<subBits {
		return int(us)
	}
	exp := bits.Len64(us) - subBits - 1 // how far to shift until subBits+1 bits are left
	return min((exp<<subBits)+int(us>>exp), buckets-1)
}

// upper is the largest duration that falls into bucket i.
func upper(i int) time.Duration {
	if i < 1<<subBits {
		return time.Duration(i+1)*time.Microsecond - 1
	}
	exp := i>>subBits - 1
	mantissa := uint64(i&(1<<subBits-1) | 1<<subBits)
	return time.Duration((mantissa+1)<<exp)*time.Microsecond - 1
}

// quantile is an upper bound of the q-th quantile, 0 when nothing was observed.
func (h *histogram) quantile(q float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	rank := max(uint64(q*float64(h.count)+0.999999), 1)
	var seen uint64
	for i, n := range h.buckets {
		if seen += n; seen >= rank {
			return upper(i)
		}
	}
	return upper(buckets - 1)
}
