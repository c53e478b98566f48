package probes

import (
	"net/http"
	"runtime"
	"strings"
	"time"

	"holdfast/handoff/status"
)

// metrics answers with one pass over one snapshot, so that all values of a scrape are of the same instant.
func metrics(src Source, version string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := collect(src, version)
		// What holdfast's own process costs, but none of Go's own metrics: those are a hundred series.
		process(e)
		e.serve(w, r.URL.Query())
	})
}

// collect tells everything. Label values that can be known beforehand are there from the start with 0, because a series
// that begins at 1 shows no increase, and handoffs are rare enough for that to hide the only one of a day.
func collect(src Source, version string) *exposition {
	s := scrape{out: &exposition{}, s: src.Snapshot(), queues: src.Queues()}
	s.family("build_info", "1, labelled with holdfast's version and the Go version that it was built with.",
		"version", "goversion").gauge(1, version, runtime.Version())
	s.generations()
	s.config()
	s.handoffs()
	s.lastHandoff()
	s.ports()
	if c, ok := src.(Counter); ok {
		s.draining(c.Connections())
	}
	s.itself()
	return s.out
}

// scrape is one pass over one snapshot.
type scrape struct {
	out    *exposition
	s      *status.Snapshot
	queues []status.Queue
}

// family is one of holdfast's own.
func (s scrape) family(name, help string, labels ...string) *family {
	return s.out.add("holdfast_"+name, help, labels...)
}

func (s scrape) generations() {
	s.family("generation", "Number of the live generation, 0 = none.").gauge(float64(s.s.Live))
	counts := map[status.State]int{}
	for _, g := range s.s.Generations {
		counts[g.State]++
	}
	f := s.family("generations", "Generations that still have processes or sockets, by state.", "state")
	for _, state := range status.States() {
		f.gauge(float64(counts[state]), string(state))
	}
}

// config tells which content runs and which is on disk. That they differ is normal for as long as a handoff takes; that
// the one on disk has been rejected is not: the live generation goes on, and the next start of the container fails.
func (s scrape) config() {
	if s.s.ConfigHash != "" {
		s.family("config_hash_info", "1, labelled with the hash of the watched content that the live generation started from, or was told of last.",
			"hash").gauge(1, s.s.ConfigHash)
	}
	if len(s.s.Watch) == 0 {
		return
	}
	if s.s.ConfigLatest != "" {
		s.family("config_latest_hash_info", "1, labelled with the hash of the watched content as it is on disk.",
			"hash").gauge(1, s.s.ConfigLatest)
	}
	s.family("config_current", "1 when the live generation runs from the watched content as it is on disk, else 0.").
		gauge(truth(s.s.ConfigHash == s.s.ConfigLatest))
	s.family("config_rejected",
		"1 while the watched content on disk has been tried and has failed, and the live generation runs from another, else 0.").
		gauge(truth(s.s.ConfigRejected != ""))
	if s.s.WatchAction != nil {
		s.watchAction(s.s.WatchAction.Last)
	}
}

func (s scrape) watchAction(last *status.Telling) {
	f := s.family("watch_actions_total",
		"Times that the live generation was told of changed content in place of a handoff, by result (completed, failed or abandoned).", "result")
	for _, result := range []string{status.Completed, status.FailedHandoff, status.Abandoned} {
		f.counter(s.s.Counters.WatchActions[result], result)
	}
	ended, successful := time.Time{}, true
	if last != nil {
		ended, successful = last.Ended, last.Result != status.FailedHandoff
	}
	s.family("last_watch_action_timestamp_seconds", "Unix time at which the last watch action ended, 0 = none has ended yet.").gauge(unix(ended))
	s.family("last_watch_action_successful", "0 when the watch action that ended last has failed, else 1 (also before the first).").gauge(truth(successful))
}

func (s scrape) handoffs() {
	counts := map[status.HandoffKey]uint64{}
	for _, trigger := range []string{"signal", "watch", "command", "restart"} {
		counts[status.HandoffKey{Trigger: trigger, Result: status.Completed}] = 0
		counts[status.HandoffKey{Trigger: trigger, Result: status.FailedHandoff}] = 0
	}
	for key, n := range s.s.Counters.Handoffs {
		counts[key] += n
	}
	f := s.family("handoffs_total", "Handoffs that have ended, by trigger and result (completed, failed or abandoned).", "trigger", "result")
	for key, n := range counts {
		f.counter(n, key.Trigger, key.Result)
	}
	f = s.family("handoff_phase_seconds", "Length of each phase of a handoff in seconds.", "phase")
	for _, phase := range status.Phases() {
		f.histogram(s.s.Counters.PhaseSeconds[phase], string(phase))
	}
}

// lastHandoff counts "none has ended yet" and "abandoned" as no failure, so that neither a new pod nor one that is going
// away sets off the alert on a failed handoff.
func (s scrape) lastHandoff() {
	s.family("handoff_in_progress", "1 while a handoff is in flight, else 0.").gauge(truth(s.s.Handoff != nil))
	ended, successful := time.Time{}, true
	if last := s.s.Last; last != nil {
		ended, successful = last.Ended, last.Result != status.FailedHandoff
	}
	s.family("last_handoff_timestamp_seconds", "Unix time at which the last handoff ended, 0 = none has ended yet.").gauge(unix(ended))
	s.family("last_handoff_successful", "0 when the handoff that ended last has failed, else 1 (also before the first).").gauge(truth(successful))
}

func (s scrape) ports() {
	info := s.family("port_info", "1 for each held port, labelled with what switches it (reuseport, rename or shared).", "port", "switch")
	length := s.family("accept_queue_length",
		"Connections that the live generation has not accepted yet, by held port (datagram ports: bytes).", "port")
	room := s.family("accept_queue_max", "Connections that the live generation's accept queue can hold, by held port, 0 = not known.", "port")
	others := s.family("accept_queue_draining_length",
		"Connections that wait on the sockets of generations that are not live, by held port, until those accept them or they are relayed.", "port")
	for port, q := range s.byPort() {
		info.gauge(1, port, q.kind)
		length.gauge(float64(q.live), port)
		room.gauge(float64(q.max), port)
		others.gauge(float64(q.others), port)
	}
}

// portQueues adds up the queues of one held port; a generation has several there when its workers open one each.
type portQueues struct {
	kind              string
	live, max, others int
}

func (s scrape) byPort() map[string]portQueues {
	all := map[string]portQueues{}
	for _, port := range s.s.Ports {
		sum := portQueues{kind: port.Switch}
		for _, q := range s.queues {
			switch {
			case q.Port != port.Port:
			case q.Generation == port.Live:
				sum.live, sum.max = sum.live+q.Length, sum.max+q.Max
			default:
				sum.others += q.Length
			}
		}
		all[port.Port] = sum
	}
	return all
}

func (s scrape) draining(counts []status.Connections) {
	n := 0
	for _, c := range counts {
		n += c.Established
	}
	s.family("draining_connections", "Established connections to held TCP ports that generations which drain still have.").gauge(float64(n))
}

func (s scrape) itself() {
	c := s.s.Counters
	s.family("stragglers_relayed_total", "Connections relayed to the live generation because their own could no longer accept them.").counter(c.Relayed)
	s.family("processes_reaped_total", "Ended processes that were waited for.").counter(c.Reaped)
	s.family("restarts_total", "Generations started because the live one had exited.").counter(c.Restarts)
	f := s.family("signals_forwarded_total", "Signals passed on to a generation, by name.", "signal")
	for name, n := range withSignals(c.SignalsForwarded) {
		f.counter(n, name)
	}
	ready := s.s.Ready == status.Readiness{}
	s.family("ready", "1 when every check of /readyz holds, whatever a probe excludes, else 0.").gauge(truth(ready))
	s.family("warnings", "Lasting conditions that an operator should know; /statusz lists them.").gauge(float64(len(s.s.Warnings)))
	s.family("start_time_seconds", "Unix time at which holdfast started.").gauge(unix(s.s.Started))
}

// withSignals adds those that people and kubelets send.
func withSignals(forwarded map[string]uint64) map[string]uint64 {
	all := map[string]uint64{"SIGTERM": 0, "SIGINT": 0, "SIGQUIT": 0, "SIGHUP": 0, "SIGUSR1": 0, "SIGUSR2": 0}
	for name, n := range forwarded {
		all[strings.ToValidUTF8(name, "?")] += n
	}
	return all
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// unix keeps the milliseconds, as Prometheus does.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
