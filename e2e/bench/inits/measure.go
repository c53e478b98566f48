// Package inits measures what an init costs: the start of its child, a signal on its way, the end, its memory at rest, and
// reaping; holdfast beside tini, dumb-init, catatonit, s6-svscan and supervisord, all as PID 1 of a PID namespace, in turns.
package inits

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"holdfast/e2e/bench/proc"
	"holdfast/e2e/bench/stats"
)

// Options bound the measurements.
type Options struct {
	Holdfast, Witness string
	Rounds            int           // starts of each subject
	Signals           int           // signals in each round
	Calm              time.Duration // from a start until they are at rest: holdfast looks for ports for 10 s
	Idle              time.Duration // how long to watch them then
	Orphans           int           // in each of OrphanRounds
	OrphanRounds      int
	Over              func() bool                      // says that the time is over: no further round
	Note              func(format string, args ...any) // says what goes on
}

// Result is what one subject came to. Times are in microseconds; what a subject does not do is an empty Summary.
type Result struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Binary  int64  `json:"binary_bytes"`

	Start  stats.Summary `json:"start_us"`  // the init's exec → its child's first instruction
	Signal stats.Summary `json:"signal_us"` // kill(2) → the child's handler
	End    stats.Summary `json:"end_us"`    // the child's last instruction → the init is gone

	Memory    proc.Memory `json:"memory"` // at rest, of all its processes
	Processes int         `json:"processes"`
	Threads   int         `json:"threads"`
	Wakeups   float64     `json:"wakeups_a_minute"`

	Orphans int           `json:"orphans"`
	Reaped  stats.Summary `json:"reaped_us"` // so many, from the first one's making to the last one's reaping
	Zombies int           `json:"zombies"`   // the most that were seen at any time
}

// Measure measures all subjects.
func Measure(o Options) ([]Result, error) {
	subjects := All(o.Holdfast)
	results := make([]Result, len(subjects))
	for i, s := range subjects {
		results[i] = Result{Name: s.Name, Version: version(s)}
		info, err := os.Stat(s.Binary)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		results[i].Binary = info.Size()
	}
	for _, part := range []func(Options, []Subject, []Result) error{lives, rest, orphans} {
		if err := part(o, subjects, results); err != nil {
			return results, err
		}
	}
	return results, nil
}

func version(s Subject) string {
	if len(s.Version) == 0 {
		return ""
	}
	out, _ := exec.Command(s.Version[0], s.Version[1:]...).CombinedOutput()
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if s.Name == "supervisord" {
		return "supervisord " + first
	}
	return first
}

// lives has every subject live again and again, one after the other.
func lives(o Options, subjects []Subject, results []Result) error {
	o.Note("inits: %d starts of each", o.Rounds)
	times := make([]struct{ start, signal, end []float64 }, len(subjects))
	for round := range o.Rounds {
		if round > 0 && o.Over() {
			break
		}
		for k := range subjects {
			i := (k + round) % len(subjects) // nobody is always the first
			if subjects[i].Slow && round >= slowRounds {
				continue
			}
			t := &times[i]
			if err := life(o, subjects[i], &t.start, &t.signal, &t.end); err != nil {
				return fmt.Errorf("%s: %w", subjects[i].Name, err)
			}
		}
	}
	for i, t := range times {
		r := &results[i]
		r.Start, r.Signal, r.End = stats.Summarize(t.start), stats.Summarize(t.signal), stats.Summarize(t.end)
		o.Note("%s: start %.0f µs (at least %.0f), signal %.0f µs (at least %.0f), end %.0f µs", r.Name, r.Start.Median, r.Start.Min, r.Signal.Median, r.Signal.Min, r.End.Median)
	}
	return nil
}

func life(o Options, s Subject, starts, signals, ends *[]float64) error {
	r, err := s.start(o.Witness, "child")
	if err != nil {
		return err
	}
	defer r.kill()
	began, err := r.log.Wait("exec", 0, within)
	if err != nil {
		return err
	}
	first, err := r.log.Wait("first", 0, within)
	if err != nil {
		return err
	}
	*starts = append(*starts, micro(first-began))
	if _, err := r.log.Wait("up", 0, within); err != nil {
		return err
	}
	if s.Forwards {
		time.Sleep(20 * time.Millisecond) // the end of its start is not what is measured
		for i := range o.Signals {
			sent := proc.Now()
			if err := r.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
				return err
			}
			came, err := r.log.Wait("signal", i, within)
			if err != nil {
				return err
			}
			*signals = append(*signals, micro(came-sent))
			time.Sleep(2 * time.Millisecond)
		}
	}
	if !s.Ends {
		return nil
	}
	child, err := r.child()
	if err != nil {
		return err
	}
	if err := syscall.Kill(child, syscall.SIGTERM); err != nil {
		return err
	}
	if _, err := r.cmd.Process.Wait(); err != nil {
		return err
	}
	gone := proc.Now()
	ended, err := r.log.Wait("end", 0, within)
	if err != nil {
		return err
	}
	*ends = append(*ends, micro(gone-ended))
	return nil
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// rest looks at all of them side by side while nothing happens.
func rest(o Options, subjects []Subject, results []Result) error {
	o.Note("inits: at rest for %v", o.Idle)
	all := make([]*running, len(subjects))
	for i, s := range subjects {
		r, err := s.start(o.Witness, "child")
		if err != nil {
			return err
		}
		defer r.kill()
		if _, err := r.log.Wait("up", 0, within); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		all[i] = r
	}
	time.Sleep(o.Calm)
	before := make([]int, len(all))
	began := time.Now()
	for i, r := range all {
		before[i] = switches(r)
	}
	time.Sleep(o.Idle)
	for i, r := range all {
		results[i].Wakeups = float64(switches(r)-before[i]) / time.Since(began).Minutes()
	}
	for i, r := range all {
		for _, pid := range r.own() {
			m := proc.MemoryOf(pid)
			results[i].Memory.Resident += m.Resident
			results[i].Memory.Anonymous += m.Anonymous
			results[i].Threads += proc.Threads(pid)
			results[i].Processes++
		}
		o.Note("%s: %d KiB resident, %d anonymous, %d threads, %.0f wake-ups a minute", results[i].Name, results[i].Memory.Resident, results[i].Memory.Anonymous,
			results[i].Threads, results[i].Wakeups)
	}
	return nil
}

func switches(r *running) (n int) {
	for _, pid := range r.own() {
		n += proc.Switches(pid)
	}
	return n
}

// orphans has every subject reap a flood.
func orphans(o Options, subjects []Subject, results []Result) error {
	times := make([][]float64, len(subjects))
	for round := range o.OrphanRounds {
		o.Note("inits: %d orphans for each, round %d of %d", o.Orphans, round+1, o.OrphanRounds)
		for k := range subjects {
			i := (k + round) % len(subjects)
			n := o.Orphans
			if subjects[i].Slow {
				n = min(n, slowOrphans)
			}
			results[i].Orphans = n
			took, zombies, err := flood(o, subjects[i], n)
			if err != nil {
				return fmt.Errorf("%s: %w", subjects[i].Name, err)
			}
			times[i] = append(times[i], micro(took))
			results[i].Zombies = max(results[i].Zombies, zombies)
		}
	}
	for i := range results {
		results[i].Reaped = stats.Summarize(times[i])
		o.Note("%s: %d orphans in %.0f ms, %d zombies at most", results[i].Name, results[i].Orphans, results[i].Reaped.Median/1000, results[i].Zombies)
	}
	return nil
}

// What one has to do that takes a second to start and milliseconds for each orphan.
const (
	slowRounds  = 5
	slowOrphans = 1000
)

// flood returns how long it took until no orphan was left, and how many were seen waiting at most.
func flood(o Options, s Subject, n int) (took time.Duration, zombies int, err error) {
	r, err := s.start(o.Witness, "orphans", fmt.Sprint(n))
	if err != nil {
		return 0, 0, err
	}
	defer r.kill()
	began, err := r.log.Wait("begin", 0, within)
	if err != nil {
		return 0, 0, err
	}
	made := make(chan error, 1)
	go func() {
		_, err := r.log.Wait("made", 0, 2*within)
		made <- err
	}()
	const tick = 5 * time.Millisecond
	for all := false; ; time.Sleep(tick) {
		waiting := len(proc.Children(r.pid())) - 1 // but for the witness, or what supervises it
		zombies = max(zombies, waiting)
		select {
		case err := <-made:
			if err != nil {
				return 0, 0, err
			}
			all = true
		default:
		}
		if all && waiting <= 0 {
			return proc.Now() - began, zombies, nil
		}
		if proc.Now()-began > 3*within {
			return 0, 0, fmt.Errorf("%d orphans are left", waiting)
		}
	}
}

// Ratio is how many times other a figure is; 0 if one of them is missing.
func Ratio(figure, other float64) float64 {
	if cmp.Compare(other, 0) <= 0 {
		return 0
	}
	return figure / other
}
