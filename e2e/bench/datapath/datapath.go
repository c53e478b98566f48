// Package datapath compares what a server answers, how long an answer takes and what it costs the processor, when the server
// runs bare and when holdfast has taken its port over and has handed it over once, so that the filter and the switch are on.
//
// Both are there all the time. The load goes to one and the other in turns (A B B A …), and both are started anew for every
// round, since one process is faster than the next for no reason that concerns us.
package datapath

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"holdfast/e2e/bench/peers"
	"holdfast/e2e/bench/proc"
	"holdfast/e2e/bench/stats"
)

// Options bound the measurement.
type Options struct {
	Tools  peers.Tools
	Peers  []peers.Peer // of which each server's holdfast and bare row are compared
	Rounds int          // starts
	Pairs  int          // in each round
	Each   time.Duration
	Over   func() bool // says that the time is over: what is not measured by then is not
	Note   func(format string, args ...any)
}

// Result is one server under one kind of load. "Kept" is a load on kept connections, else each request has its own.
type Result struct {
	Server string      `json:"server"`
	Kept   bool        `json:"kept"`
	Bare   Side        `json:"bare"`
	Behind Side        `json:"behind"`
	Rate   stats.Ratio `json:"rate"` // holdfast ÷ bare
	CPU    stats.Ratio `json:"cpu"`
	P50    stats.Ratio `json:"p50"`
	P99    stats.Ratio `json:"p99"`
}

// Side is one of the two.
type Side struct {
	Rate stats.Summary `json:"rate"`   // answers a second
	CPU  stats.Summary `json:"cpu_us"` // of the server's processes, and holdfast's, for each answer
	P50  stats.Summary `json:"p50_us"`
	P99  stats.Summary `json:"p99_us"`
}

// Measure measures nginx and the Go server.
func Measure(o Options) ([]Result, error) {
	if _, err := exec.LookPath("wrk"); err != nil {
		return nil, errors.New("wrk is missing: run e2e/deps.sh wrk")
	}
	o.Tools.Work = 0 // the most that the path itself can do
	var results []Result
	for _, name := range []string{peers.GoServer, "nginx"} {
		for _, kept := range []bool{true, false} {
			bare, behind := find(o.Peers, name, false), find(o.Peers, name, true)
			if o.Over() {
				return results, errors.New("the time was over before all was measured")
			}
			var a, b samples
			for range o.Rounds {
				if err := o.round(bare, behind, kept, &a, &b); err != nil {
					return results, fmt.Errorf("%s: %w", name, err)
				}
			}
			r := Result{
				Server: name, Kept: kept, Bare: a.side(), Behind: b.side(),
				Rate: stats.Ratios(a.rate, b.rate), CPU: stats.Ratios(a.cpu, b.cpu), P50: stats.Ratios(a.p50, b.p50), P99: stats.Ratios(a.p99, b.p99),
			}
			o.Note("%s, kept %t: %.0f and %.0f a second, ratio %.4f (%.4f to %.4f); CPU %.4f (%.4f to %.4f)", name, kept,
				r.Bare.Rate.Median, r.Behind.Rate.Median, r.Rate.Mean, r.Rate.Low, r.Rate.High, r.CPU.Mean, r.CPU.Low, r.CPU.High)
			results = append(results, r)
		}
	}
	return results, nil
}

func find(all []peers.Peer, server string, holdfast bool) peers.Peer {
	for _, p := range all {
		if p.Server == server && p.Holdfast == holdfast && !p.Floor {
			return p
		}
	}
	panic("the table of peers has no " + server)
}

type samples struct{ rate, cpu, p50, p99 []float64 }

func (s *samples) side() Side {
	return Side{stats.Summarize(s.rate), stats.Summarize(s.cpu), stats.Summarize(s.p50), stats.Summarize(s.p99)}
}

func (o Options) round(bare, behind peers.Peer, kept bool, a, b *samples) (err error) {
	first, err := bare.Start(o.Tools)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, first.Stop()) }()
	second, err := behind.Start(o.Tools)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, second.Stop()) }()
	if err := handedOver(second); err != nil {
		return err
	}
	for i := range 2 * o.Pairs {
		// A B, B A, A B, …: what drifts slowly falls on both.
		if (i+1)/2%2 == 0 {
			err = o.measure(first, kept, a)
		} else {
			err = o.measure(second, kept, b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// handedOver hands over once, and waits until the old generation is gone.
func handedOver(r *peers.Running) error {
	before := proc.Below(r.PID())[1:]
	if err := r.Reload(); err != nil {
		return err
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		left := 0
		for _, pid := range before {
			if proc.Alive(pid) {
				left++
			}
		}
		if left == 0 && len(proc.Below(r.PID())) > 1 {
			return r.Answers()
		}
	}
	return errors.New("the old generation does not go")
}

// What wrk prints.
var (
	requests = regexp.MustCompile(`(\d+) requests in ([0-9.]+)(m?s)`)
	quantile = map[string]*regexp.Regexp{"50": regexp.MustCompile(`50%\s+([0-9.]+)(us|ms|s)`), "99": regexp.MustCompile(`99%\s+([0-9.]+)(us|ms|s)`)}
)

// measure has wrk put as much load as it can on r.
func (o Options) measure(r *peers.Running, kept bool, s *samples) error {
	args := []string{"--latency", "-t1", "-c16", "-d" + strconv.Itoa(max(1, int(o.Each.Seconds()))) + "s"}
	if !kept {
		args = append(args, "-H", "Connection: close")
	}
	cmd := exec.Command("wrk", append(args, "http://"+r.Addr()+"/")...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	pids := proc.Below(r.PID())
	before := proc.CPU(pids...)
	out, err := cmd.Output()
	used := proc.CPU(pids...) - before
	if err != nil {
		return fmt.Errorf("wrk: %w", err)
	}
	text := string(out)
	if strings.Contains(text, "Non-2xx") || strings.Contains(text, "connect ") && !strings.Contains(text, "connect 0") {
		return fmt.Errorf("failed requests: %s", text)
	}
	found := requests.FindStringSubmatch(text)
	if found == nil {
		return fmt.Errorf("wrk said something else: %s", text)
	}
	n, _ := strconv.ParseFloat(found[1], 64)
	s.rate = append(s.rate, n/(micros(found[2], found[3])/1e6))
	s.cpu = append(s.cpu, float64(used.Nanoseconds())/1e3/n)
	for q, to := range map[string]*[]float64{"50": &s.p50, "99": &s.p99} {
		at := quantile[q].FindStringSubmatch(text)
		if at == nil {
			return fmt.Errorf("wrk said something else: %s", text)
		}
		*to = append(*to, micros(at[1], at[2]))
	}
	return nil
}

func micros(number, unit string) float64 {
	v, _ := strconv.ParseFloat(number, 64)
	return v * map[string]float64{"us": 1, "ms": 1e3, "s": 1e6}[unit]
}
