package chaos

import (
	"math/rand/v2"
	"sync"
	"testing"
)

// What is tried without flags.
const (
	fewHandoffs = 24
	fullChaos   = 500 // from here on it goes into the page
	fixedSeed   = 1
	firstUID    = 61_000 // the lanes' users; nobody has an account there
)

// TestChaos hands over, disturbed.
func TestChaos(t *testing.T) {
	n, seed := *handoffs, *seeded
	if n == 0 {
		n = fewHandoffs
	}
	if seed == 0 {
		seed = fixedSeed
	}
	t.Logf("seed %d: go test ./e2e/chaos -run TestChaos -v -args -handoffs %d -seed %d", seed, n, seed)
	all := lanes(t)
	var mu sync.Mutex
	total := counts{Seed: seed}
	t.Run("lanes", func(t *testing.T) {
		for i, s := range all {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				steps := plan((n+len(all)-1)/len(all), rand.New(rand.NewPCG(seed, uint64(i))))
				l := newLane(t, s, firstUID+i)
				l.run(steps)
				mu.Lock()
				defer mu.Unlock()
				total.add(l.counts)
				total.Lanes = append(total.Lanes, laneResources{s.name, l.counts.Before, l.counts.After})
			})
		}
	})
	if t.Failed() {
		return
	}
	t.Logf("%s", total.text())
	if n >= fullChaos {
		keep(t, func(r *recorded) { r.Chaos = &total })
	}
}
