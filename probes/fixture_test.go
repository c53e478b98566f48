package probes

import (
	"time"

	"holdfast/handoff/status"
)

// at is the instant that the fixtures are seen at; ago counts back from it.
func at() time.Time { return time.Date(2026, 11, 22, 18, 2, 11, 0, time.UTC) }

func ago(d time.Duration) time.Time { return at().Add(-d) }

// still is a Source that stays as it is.
type still struct {
	s           *status.Snapshot
	queues      []status.Queue
	connections []status.Connections
}

func (s still) Snapshot() *status.Snapshot { return s.s }
func (s still) Queues() []status.Queue     { return s.queues }

func (s still) Connections() []status.Connections { return s.connections }

func (s still) document() status.Document {
	return status.Document{Snapshot: s.s, Queues: s.queues, Connections: s.connections}
}

// beating is a still Source whose loop last gave a sign of life so long ago.
type beating struct {
	still
	silent time.Duration
}

func (b beating) Pulse() time.Duration { return b.silent }

// fresh has just started its first generation, which is not proven yet.
func fresh() still {
	return still{s: &status.Snapshot{
		Version: "v1.2.3", PID: 1, Started: ago(3 * time.Second), At: at(), Command: []string{"nginx", "-g", "daemon off;"},
		Live: 1,
		Generations: []status.Generation{{
			Number: 1, State: status.Live, PID: 7, Trigger: "start", Detail: "waits for a port",
			Started: ago(3 * time.Second), Executed: ago(3 * time.Second), LiveAt: ago(3 * time.Second),
		}},
		Ready: status.Readiness{Live: "generation 1 is not proven yet"},
	}}
}

// steady serves from its only generation, nothing is going on.
func steady() still {
	s := fresh()
	g := &s.s.Generations[0]
	g.Proven, g.ProvenAt, g.Detail = true, ago(2*time.Second), ""
	s.s.Ready = status.Readiness{}
	s.s.Ports = []status.Port{{Port: "0.0.0.0:8080", Switch: "reuseport", Live: 1, Generations: []int{1}, Cutover: ago(2 * time.Second)}}
	s.queues = []status.Queue{{Port: "0.0.0.0:8080", Generation: 1, Length: 0, Max: 511}}
	return s
}

// busy proves generation 5 while 4 serves and 2 drains, after 3 has failed.
func busy() still {
	const hash = "5f2c9e0a11bc77d0c0ffee00"
	completed := status.Handoff{
		Trigger: "watch", From: 2, To: 4, Result: status.Completed,
		Triggered: ago(7700 * time.Second), Ended: ago(7690 * time.Second), CutoverAt: ago(7698 * time.Second),
		Seconds: map[status.Phase]float64{
			status.PhaseStart: .0021, status.PhaseProve: 1.25, status.PhaseCutover: .0003, status.PhaseSettle: 1, status.PhaseDrain: 7.7,
		},
	}
	failed := status.Handoff{
		Trigger: "signal", From: 2, To: 3, Result: status.FailedHandoff, Reason: "generation 3 exited while it was proven: exit 1",
		Triggered: ago(26 * time.Hour), Ended: ago(26*time.Hour - 600*time.Millisecond),
	}
	return still{
		s: &status.Snapshot{
			Version: "v1.2.3", PID: 1, Started: ago(50 * time.Hour), At: at(),
			Command: []string{"java", "-Dname=a b", "-jar", "/srv/app.jar", "--spring.config.location=/etc/app/", "--a-very-long-option=true", ""},
			Live:    4,
			Generations: []status.Generation{
				{
					Number: 2, State: status.Draining, Proven: true, PID: 31, Trigger: "start", Processes: 3,
					Started: ago(50 * time.Hour), LiveAt: ago(50 * time.Hour), StoppedAt: ago(7697 * time.Second), Detail: "12\n\x1b[31mleft",
				},
				{
					Number: 4, State: status.Live, Proven: true, PID: 977, Trigger: "watch", ConfigHash: hash,
					Started: ago(7700 * time.Second), Executed: ago(7700 * time.Second), ProvenAt: ago(7699 * time.Second), LiveAt: ago(7698 * time.Second),
				},
				{
					Number: 5, State: status.Proving, PID: 1203, Trigger: "signal", ConfigHash: "00ff", Detail: "waits for 0.0.0.0:8080",
					Started: ago(4 * time.Second), Executed: ago(3 * time.Second),
				},
				{
					Number: 3, State: status.Gone, Trigger: "signal", Exit: "exit 1", Detail: "exited while it was proven",
					Started: ago(26 * time.Hour), GoneAt: ago(26*time.Hour - time.Second),
				},
			},
			Ports: []status.Port{
				{Name: "http", Port: "0.0.0.0:8080", Switch: "reuseport", Live: 4, Generations: []int{2, 4, 5}, Cutover: ago(7698 * time.Second)},
				{Port: "udp://[::]:53", Switch: "shared", Live: 4, Generations: []int{4}},
				{Port: "unix:///run/app.sock", Switch: "rename", Live: 4, Cutover: ago(7698 * time.Second)},
			},
			Ready:   status.Readiness{Handoff: "generation 5 is proving"},
			Handoff: &status.Handoff{Trigger: "signal", From: 4, To: 5, Phase: status.PhaseProve, Triggered: ago(4 * time.Second), Seconds: map[status.Phase]float64{status.PhaseStart: 1}},
			Last:    &completed,
			Recent:  []status.Handoff{failed, completed},
			Pending: true, Watch: []string{"/etc/app"}, ConfigHash: hash, ConfigLatest: "00ff",
			Warnings: []string{"udp://[::]:53 is shared by all generations: the kernel has no switch for it"},
			Counters: status.Counters{
				Handoffs: map[status.HandoffKey]uint64{
					{Trigger: "watch", Result: status.Completed}: 1, {Trigger: "signal", Result: status.FailedHandoff}: 1,
				},
				PhaseSeconds:     map[status.Phase]status.Histogram{status.PhaseProve: status.Histogram{}.Observe(1.25).Observe(.0008)},
				Reaped:           412,
				SignalsForwarded: map[string]uint64{"SIGTERM": 0, "SIGWINCH": 2},
				Relayed:          3,
				Restarts:         1,
			},
		},
		queues: []status.Queue{
			{Port: "0.0.0.0:8080", Generation: 2, Length: 3, Max: 511},
			{Port: "0.0.0.0:8080", Generation: 4, Length: 2, Max: 511},
			{Port: "0.0.0.0:8080", Generation: 4, Length: 1, Max: 511},
			{Port: "0.0.0.0:8080", Generation: 5, Length: 0, Max: 511},
			{Port: "udp://[::]:53", Generation: 4, Length: 96},
		},
		connections: []status.Connections{{Generation: 2, Established: 17}},
	}
}

// ending got a TERM after its last handoff had failed and nothing is live any more.
func ending() still {
	s := steady()
	s.s.Live, s.s.Terminating = 0, true
	s.s.Generations[0].State, s.s.Generations[0].StoppedAt = status.Draining, ago(time.Second)
	s.s.Ports, s.queues = nil, nil
	s.s.Ready = status.Readiness{Live: "no generation is live", Shutdown: "holdfast is terminating"}
	s.s.Last = &status.Handoff{
		Trigger: "command", From: 1, Result: status.FailedHandoff, Reason: "the check failed: nginx -t: exit 1",
		Triggered: ago(65 * time.Second), Ended: ago(64 * time.Second),
	}
	s.s.Recent = []status.Handoff{*s.s.Last}
	s.s.WatchAction = &status.WatchAction{Do: "signal:HUP", Last: &status.Telling{
		Generation: 1, ConfigHash: "1d2c9e0a11bc77d0", Result: status.FailedHandoff, Reason: "the live generation exited: exit 1",
		Began: ago(2 * time.Minute), Ended: ago(119 * time.Second),
	}, Now: &status.Telling{Generation: 1, ConfigHash: "4b2c9e0a11bc77d0", Began: ago(4 * time.Second)}}
	s.s.Counters.WatchActions = map[string]uint64{status.FailedHandoff: 1}
	s.s.Watch, s.s.ConfigHash = []string{"/etc/nginx"}, "1d2c9e0a11bc77d0"
	s.s.ConfigLatest, s.s.ConfigRejected = "4b2c9e0a11bc77d0", "4b2c9e0a11bc77d0"
	return s
}
