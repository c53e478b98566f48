package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"holdfast/e2e/bench/bad"
	"holdfast/e2e/bench/datapath"
	"holdfast/e2e/bench/handoffs"
	"holdfast/e2e/bench/inits"
	"holdfast/e2e/bench/peers"
	"holdfast/e2e/bench/phases"
	"holdfast/e2e/bench/plots"
	"holdfast/e2e/bench/report"
	"holdfast/e2e/bench/subject"
	"holdfast/e2e/bench/witness"
)

// bench is one run.
type bench struct {
	size    size
	server  string // all if empty
	note    func(format string, args ...any)
	tools   peers.Tools
	witness string
	ends    time.Time // when the time is over
	results report.Results
}

func (b *bench) over() bool { return time.Now().After(b.ends) }

type part struct {
	name    string
	measure func(*bench) error
}

func parts() []part {
	return []part{
		{"handoffs", (*bench).handoffs},
		{"phases", (*bench).phases},
		{"init", (*bench).inits},
		{"data", (*bench).data},
		{"bad", (*bench).bad},
	}
}

func partNames() (names []string) {
	for _, p := range parts() {
		names = append(names, p.name)
	}
	return names
}

// prepare builds everything into a directory that clean removes.
func prepare(root string, s size, note func(string, ...any)) (b *bench, clean func(), err error) {
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return nil, nil, err
	}
	remove := func() { _ = os.RemoveAll(dir) }
	clean = remove
	defer func() {
		if err != nil {
			remove()
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, nil, err
	}
	note("building …")
	here := filepath.Join(root, "e2e", "bench")
	b = &bench{size: s, note: note, tools: peers.Tools{
		Holdfast: filepath.Join(root, "bin", "holdfast"), Server: filepath.Join(dir, "server"), Tableflip: filepath.Join(dir, "tableflip"),
		GoStarter: filepath.Join(dir, "start_server"), Files: filepath.Join(here, "peers", "files"), Work: calibrate(),
	}}
	if _, err := os.Stat(b.tools.Holdfast); err != nil {
		return nil, nil, fmt.Errorf("%w: make build", err)
	}
	for _, one := range []struct{ in, what, to string }{
		{here, "./subject/server", b.tools.Server},
		{filepath.Join(here, "peers", "tableflip"), ".", b.tools.Tableflip},
		{filepath.Join(here, "peers", "starter"), "github.com/lestrrat/go-server-starter/cmd/start_server", b.tools.GoStarter},
	} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", one.to, one.what)
		cmd.Dir, cmd.Env = one.in, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, nil, fmt.Errorf("build %s: %w: %s", one.what, err, out)
		}
	}
	if b.witness, err = witness.Build(dir); err != nil {
		return nil, nil, err
	}
	b.results = report.Results{At: time.Now().UTC().Truncate(time.Second), Size: s.name, Machine: machine(), Versions: versions(b.tools, here)}
	return b, clean, nil
}

// workFor is what an answer of the Go server costs its processor, beside what HTTP does.
const workFor = 250 * time.Microsecond

// calibrate returns how much work that is here.
func calibrate() int {
	best := time.Hour
	const n = 1000
	for range 20 {
		began := time.Now()
		subject.Work(n)
		best = min(best, time.Since(began))
	}
	return max(1, int(n*workFor/best))
}

func versions(tools peers.Tools, here string) map[string]string {
	all := map[string]string{
		"holdfast":          first(exec.Command(tools.Holdfast, "--version")),
		"tableflip":         module(filepath.Join(here, "peers", "tableflip"), "github.com/cloudflare/tableflip"),
		"go-server-starter": module(filepath.Join(here, "peers", "starter"), "github.com/lestrrat/go-server-starter"),
		"wrk":               first(exec.Command("dpkg-query", "-W", "-f", "${Version}", "wrk")),
		"Node":              first(exec.Command("node", "--version")),
	}
	for _, p := range peers.All() {
		if len(p.Version) > 0 {
			all[p.Name] = first(exec.Command(p.Version[0], p.Version[1:]...))
		}
	}
	return all
}

func module(dir, path string) string {
	cmd := exec.Command("go", "list", "-m", path)
	cmd.Dir = dir
	return first(cmd)
}

// first is the first line of what a command says, whatever becomes of it.
func first(cmd *exec.Cmd) string {
	out, _ := cmd.CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

func machine() report.Machine {
	m := report.Machine{Processors: runtime.NumCPU(), Go: runtime.Version(), Kernel: first(exec.Command("uname", "-sr"))}
	m.CPU = value("/proc/cpuinfo", "model name", ":")
	m.System = strings.Trim(value("/etc/os-release", "PRETTY_NAME", "="), `"`)
	var kib float64
	_, _ = fmt.Sscanf(value("/proc/meminfo", "MemTotal", ":"), "%f kB", &kib)
	m.Memory = fmt.Sprintf("%.0f GiB", kib/(1<<20))
	return m
}

func value(path, key, separator string) string {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, separator); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func (b *bench) handoffs() (err error) {
	b.results.Handoffs, err = handoffs.Measure(handoffs.Options{
		Tools: b.tools, Peers: b.loaded(), Loads: b.size.loads, Want: b.size.handoffs, Capacity: b.size.capacity, Ceiling: 3000, Note: b.note,
		Until: time.Now().Add(b.size.handoffsFor),
		Budget: func(p peers.Peer) time.Duration {
			switch {
			case p.Server != peers.GoServer:
				return b.size.ownReload
			case p.Holdfast:
				return b.size.holdfast
			}
			return b.size.peer
		},
	})
	return err
}

func (b *bench) bad() (err error) {
	b.results.Bad, err = bad.Measure(bad.Options{
		Tools: b.tools, Peers: b.badPeers(), Watch: b.size.watch, Wedge: b.size.wedge, Together: 9, Over: b.over, Note: b.note,
	})
	return err
}

// loaded are all or, where that takes too long, those that start in no time.
func (b *bench) loaded() []peers.Peer {
	return slices.DeleteFunc(peers.All(), func(p peers.Peer) bool {
		return b.left(p) || !b.size.others && p.Server != peers.GoServer && p.Server != "nginx"
	})
}

// left says whether p is not asked for.
func (b *bench) left(p peers.Peer) bool { return b.server != "" && p.Server != b.server }

// badPeers are those of the Go server first, holdfast's rows before all others; and, unless that takes too long, the rest.
func (b *bench) badPeers() (all []peers.Peer) {
	var others []peers.Peer
	for _, p := range peers.All() {
		switch {
		case p.Server != peers.GoServer:
			others = append(others, p)
		case p.Holdfast:
			all = append(append(all, p), peers.Careful()...)
		default:
			all = append(all, p)
		}
	}
	if b.size.others {
		all = append(all, others...)
	}
	return slices.DeleteFunc(all, b.left)
}

func (b *bench) inits() (err error) {
	b.results.Inits, err = inits.Measure(inits.Options{
		Holdfast: b.tools.Holdfast, Witness: b.witness, Rounds: b.size.starts, Signals: b.size.signals, Calm: b.size.calm, Idle: b.size.idle,
		Orphans: b.size.orphans, OrphanRounds: b.size.orphanRounds, Over: b.over, Note: b.note,
	})
	return err
}

func (b *bench) phases() (err error) {
	b.results.Phases, err = phases.Measure(phases.Options{
		Holdfast: b.tools.Holdfast, Witness: b.witness, Server: b.tools.Server, Handoffs: b.size.many, Budget: b.size.manyFor, Each: b.size.each,
		Ports: b.size.ports, Connections: b.size.connections, Processes: b.size.processes, Files: b.size.files, Over: b.over, Note: b.note,
	})
	return err
}

func (b *bench) data() (err error) {
	b.results.Data, err = datapath.Measure(datapath.Options{
		Tools: b.tools, Peers: peers.All(), Rounds: b.size.rounds, Pairs: b.size.pairs, Each: time.Second, Over: b.over, Note: b.note,
	})
	return err
}

// size is how much of everything is measured.
type size struct {
	name  string
	lasts time.Duration // after so long nothing further is begun

	loads                     []float64     // shares of the bare server's capacity
	handoffs                  int           // in each cell
	holdfast, peer, ownReload time.Duration // for them, at one load
	handoffsFor, capacity     time.Duration
	watch, wedge              time.Duration
	others                    bool // other servers than the Go one, too
	starts, signals           int
	calm, idle                time.Duration
	orphans, orphanRounds     int
	many                      int
	manyFor                   time.Duration
	each                      int
	ports, connections        []int
	processes, files          []int
	rounds, pairs             int
}

func sizes() map[string]size {
	whole := size{
		name: "whole", lasts: 13*time.Minute + 50*time.Second, loads: []float64{.3, .7, .95}, handoffs: 100, holdfast: 42 * time.Second, peer: 7 * time.Second, ownReload: 2500 * time.Millisecond,
		handoffsFor: 7 * time.Minute, capacity: 2 * time.Second, watch: 6 * time.Second, wedge: 16 * time.Second, others: true,
		starts: 60, signals: 10, calm: 25 * time.Second, idle: 20 * time.Second, orphans: 100_000, orphanRounds: 1,
		many: 1000, manyFor: 50 * time.Second, each: 5, ports: []int{1, 10, 100, 1000}, connections: []int{0, 1000, 10_000, 50_000},
		processes: []int{2, 100, 1000, 10_000}, files: []int{10, 100, 1000, 10_000}, rounds: 3, pairs: 4,
	}
	full := whole
	full.name, full.lasts, full.holdfast, full.peer, full.ownReload, full.handoffsFor = "full", 24*time.Hour, time.Hour, time.Hour, time.Hour, 24*time.Hour
	full.starts, full.orphanRounds, full.manyFor, full.each, full.rounds, full.pairs = 200, 3, time.Hour, 20, 10, 10
	quick := size{
		name: "quick", lasts: 95 * time.Second, loads: []float64{.3}, handoffs: 10, holdfast: 5 * time.Second, peer: time.Second, ownReload: time.Second / 2,
		handoffsFor: 30 * time.Second, capacity: time.Second / 2, watch: 3 * time.Second, wedge: 3 * time.Second,
		starts: 5, signals: 3, calm: 2 * time.Second, idle: 3 * time.Second, orphans: 5000, orphanRounds: 1,
		many: 30, manyFor: 3 * time.Second, each: 1, ports: []int{1, 100}, connections: []int{0, 2000},
		processes: []int{2, 1000}, files: []int{10, 1000}, rounds: 1, pairs: 1,
	}
	return map[string]size{whole.name: whole, full.name: full, quick.name: quick}
}

const figuresFile = "benchmarks.json"

func read(docs string) (r report.Results, err error) {
	text, err := os.ReadFile(filepath.Join(docs, figuresFile))
	if err != nil {
		return r, fmt.Errorf("%w: make bench", err)
	}
	return r, json.Unmarshal(text, &r)
}

// write writes the figures, the document and the plots.
func write(docs string, r report.Results) error {
	if err := os.MkdirAll(docs, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(docs, figuresFile), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(docs, "benchmarks.md"), []byte(report.Render(r)), 0o644),
		plots.Latency(docs, report.Shown(r)),
		plots.Growth(docs, r.Phases.Growths),
	)
}
