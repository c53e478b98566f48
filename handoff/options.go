package handoff

import (
	"log/slog"
	"syscall"
	"time"

	"k8s.io/utils/clock"

	"holdfast/handoff/activation"
	"holdfast/handoff/machine"
	"holdfast/handoff/port"
	"holdfast/handoff/ready"
)

// Options is what the flags say. Durations of 0 mean "not at all" where that makes sense.
type Options struct {
	// AtRest, if not nil, is called in a goroutine of its own when a generation has gone and no handoff is in flight.
	AtRest  func()
	Command []string // the child's command line
	Environ []string // what its environment starts from
	Version string

	Listen     []port.Spec
	Activation []activation.Convention

	// Takeover says whether ports that the child binds for itself are held, too.
	Takeover        Takeover
	TakeoverAt      TakeoverAt
	TakeoverExclude []int // port numbers that are not
	PortsMayChange  bool  // a generation need not open all ports that the live one has
	V6Only          bool  // what the kernel takes for IPV6_V6ONLY where a program does not set it

	ReloadSignal syscall.Signal
	Watch        Watcher  // nil = nothing is watched
	WatchPaths   []string // what it watches, as it was named
	WatchAction  WatchAction
	Check        []string

	Ready        []ready.Mode
	ReadyTimeout time.Duration

	Headroom machine.Headroom // what to do where a second generation would not fit the memory limit

	Sequential      bool
	StopSignal      syscall.Signal // 0 = by the program's name
	Soak            time.Duration
	Settle          time.Duration
	DrainTimeout    time.Duration
	WaitConnections bool
	MaxDraining     int

	Restart       machine.Restart
	ShutdownDelay time.Duration
	GracePeriod   time.Duration

	EnvFile, EnvDir string

	Bare       bool // the child's environment is this process' own, without a word of generations
	Group      bool // signals go to the process group of the main process
	Session    bool // the main process gets a session of its own, and the terminal with it; dumb-init's way
	AtRoot     bool // this process goes to / when its child runs, and holds no other file system in use; dumb-init's way, too
	JobControl bool // SIGTSTP, SIGTTIN and SIGTTOU, passed on as Rewrite says, stop this process, too; dumb-init's way as well
	Follow     bool // a descendant may take the main process' place when that exits
	LogReaped  bool // tell of each orphan that was reaped
	// Inherited are the descriptors above 2 that this process was given, and passes on under the same numbers; Passed the
	// variables that tell of them.
	Inherited []int
	Passed    []string

	Rewrite   map[syscall.Signal]syscall.Signal
	RemapExit map[int]int

	Log   *slog.Logger
	Clock clock.WithDelayedExecution
}

// Takeover is a value of --takeover.
type Takeover int

// The values of --takeover.
const (
	TakeoverAuto    Takeover = iota // where the kernel can
	TakeoverOff                     // never
	TakeoverRequire                 // a generation is not started without
)

// TakeoverAt is a value of --takeover-at: when the child's socket becomes one of the holder's.
type TakeoverAt int

// The values of --takeover-at.
const (
	AtBind   TakeoverAt = iota // bind(2) puts the holder's in the place of the child's
	AtSocket                   // socket(2) makes one of the holder's, which bind(2) leaves in its place
)

// Watcher is what tells of changed content; *trigger.Watcher is one.
type Watcher interface {
	// Hash returns the hash of the watched content as last read. It must not wait: the file system may be dead.
	Hash() string
	// ReadWithin reads it now and returns its hash, or what Hash returns if that takes longer than d.
	ReadWithin(d time.Duration) string
	// Warnings returns lasting conditions that an operator should know. It must not wait.
	Warnings() []string
}

func (o Options) machine() machine.Config {
	return machine.Config{
		Check:           len(o.Check) > 0,
		Tell:            o.WatchAction.Signal != 0 || len(o.WatchAction.Command) > 0,
		Sequential:      o.Sequential,
		Soak:            o.Soak > 0,
		WaitConnections: o.WaitConnections,
		ShutdownDelay:   o.ShutdownDelay > 0,
		Grace:           o.GracePeriod > 0,
		MaxDraining:     o.MaxDraining,
		Restart:         o.Restart,
		Headroom:        o.Headroom,
	}
}
