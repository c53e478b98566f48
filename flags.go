package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/utils/clock"

	"holdfast/handoff"
	"holdfast/handoff/activation"
	"holdfast/handoff/machine"
	"holdfast/handoff/port"
	"holdfast/handoff/ready"
	"holdfast/reaper"
)

// flags is the command line and its environment twins, read and checked one by one.
type flags struct {
	set      *pflag.FlagSet
	sections []section
	command  []string

	listen          []port.Spec
	blocks          []bool // whether its options say if it blocks, for each of listen
	activation      []activation.Convention
	takeover        handoff.Takeover
	takeoverAt      handoff.TakeoverAt
	takeoverExclude []int
	portsMayChange  bool

	reloadSignal syscall.Signal
	watch        []string
	watchTrigger []string
	watchAction  handoff.WatchAction

	watchDebounce, watchJitter time.Duration
	check                      []string
	ready                      []ready.Mode
	readyTimeout               time.Duration

	headroom        machine.Headroom
	sequential      bool
	stopSignal      syscall.Signal
	soak            time.Duration
	maxDraining     int
	settle          time.Duration
	drainTimeout    time.Duration
	waitConnections bool
	restart         machine.Restart
	shutdownDelay   time.Duration
	gracePeriod     time.Duration

	terminationLog  string
	envFile, envDir string
	probeAddr       string
	group           bool
	session         bool // dumb-init's alone
	atRoot          bool // the same
	jobControl      bool
	follow          bool
	logReaped       bool
	pdeathsig       syscall.Signal
	pause           bool // catatonit's alone: run nothing
	plain           bool // an init and nothing more: no control socket
	rewrite         map[syscall.Signal]syscall.Signal
	remapExit       map[int]int

	logFormat      string
	logLevel       slog.Level
	verbose, quiet bool
	version        bool
}

// lastWords is the file for the reason of a container's end; none where there are no flags, or none of holdfast's own.
func (f *flags) lastWords() string {
	if f == nil || f.plain {
		return ""
	}
	return f.terminationLog
}

// errHelp says that help was asked for.
var errHelp = pflag.ErrHelp

// parseFlags reads args; a flag that is not given there is taken from HOLDFAST_<NAME>. An error is one line that names
// the flag, the value and what would be right.
func parseFlags(args, environ []string) (*flags, error) {
	f := &flags{
		rewrite:   map[syscall.Signal]syscall.Signal{},
		remapExit: map[int]int{},
	}
	f.define()
	if err := f.set.Parse(args); err != nil {
		return f, flagError(err)
	}
	f.command = f.set.Args()
	if err := f.fromEnvironment(environ); err != nil {
		return f, err
	}
	if f.version {
		return f, nil
	}
	return f, f.finish()
}

// fromEnvironment sets what the command line has not. A repeatable flag's variable holds one value a line.
func (f *flags) fromEnvironment(environ []string) error {
	values := map[string]string{}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, "HOLDFAST_") {
			values[name] = value
		}
	}
	var first error
	f.set.VisitAll(func(flag *pflag.Flag) {
		if flag.Name == "version" {
			return // ENV HOLDFAST_VERSION=1.2.3 in an image says which one it has, and asks for nothing
		}
		name := variable(flag.Name)
		value, ok := values[name]
		if !ok || flag.Changed || first != nil {
			return
		}
		if value == "" && flag.Name != "probe-addr" { // set to nothing, as compose files and charts do: the default
			return
		}
		for _, v := range split(flag, value) {
			if err := f.set.Set(flag.Name, v); err != nil {
				first = fmt.Errorf("%s: %w", name, flagError(err))
			}
		}
	})
	if first == nil {
		f.fromTini(environ)
	}
	return first
}

// fromTini reads tini's variables, which say less than a flag or a variable of holdfast's own.
func (f *flags) fromTini(environ []string) {
	for _, kv := range environ {
		switch name, value, _ := strings.Cut(kv, "="); name {
		case "TINI_KILL_PROCESS_GROUP":
			f.group = f.group || !f.set.Changed("group")
		case "TINI_VERBOSITY":
			if n, err := strconv.Atoi(value); err == nil && !f.set.Changed("log-level") && !f.verbose && !f.quiet {
				f.logLevel = tiniLevel(n)
			}
		}
	}
}

func variable(flag string) string {
	return "HOLDFAST_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func split(flag *pflag.Flag, value string) []string {
	if repeatable(flag) {
		return strings.FieldsFunc(value, func(r rune) bool { return r == '\n' })
	}
	return []string{value}
}

func flagError(err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		return fmt.Errorf("%w: see holdfast --help; words for the child go behind --", err)
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		return fmt.Errorf("--%s %q: %w", invalid.GetFlag().Name, invalid.GetValue(), invalid.Unwrap())
	}
	return err
}

// finish checks what belongs together.
func (f *flags) finish() error {
	if len(f.command) == 0 {
		return errors.New("no command: want holdfast [flags] -- command [args…]; see holdfast --help")
	}
	if f.command[0] == "" {
		return errors.New(`the command is empty: want a program's name or path, not ""`)
	}
	if name, _, _ := strings.Cut(strings.TrimPrefix(f.command[0], "--"), "="); strings.HasPrefix(f.command[0], "--") && !f.plain && f.set.Lookup(name) != nil {
		return fmt.Errorf("the command is %q: flags stand before --; where an image's entrypoint ends in --, set %s instead", f.command[0], variable(name))
	}
	if len(f.ready) == 0 {
		f.ready = []ready.Mode{{Kind: ready.Accept}}
	}
	switch {
	case f.verbose && f.quiet:
		return errors.New("--verbose and --quiet contradict each other: want one of them")
	case f.verbose:
		f.logLevel = slog.LevelDebug
	case f.quiet:
		f.logLevel = slog.LevelError
	}
	if f.sequential && f.soak > 0 {
		return errors.New("--soak and --strategy sequential contradict each other: a generation that has been stopped cannot be turned back to; drop one of them")
	}
	if f.sequential && f.waitConnections {
		return errors.New("--drain-wait-connections and --strategy sequential contradict each other: the old generation's end is what the new one waits for; drop one of them")
	}
	if f.takeover == handoff.TakeoverOff && (f.takeoverAt == handoff.AtSocket || len(f.takeoverExclude) > 0) {
		return errors.New("--takeover off contradicts --takeover-at and --takeover-exclude: they say how to take over; drop it, or them")
	}
	if f.readyTimeout == 0 {
		return errors.New("--ready-timeout 0s: no generation can be ready in no time; want more, such as 60s")
	}
	if f.maxDraining < 1 {
		return fmt.Errorf("--max-draining %d: want at least 1", f.maxDraining)
	}
	if f.jobControl {
		f.stopFor()
	}
	switch f.reloadSignal {
	case syscall.SIGTERM, syscall.SIGCHLD, syscall.SIGKILL, syscall.SIGSTOP:
		return fmt.Errorf("--reload-signal %s: it has another meaning; want one such as HUP, USR1 or USR2", reaper.SignalName(f.reloadSignal))
	case syscall.SIGTTIN, syscall.SIGTTOU:
		return fmt.Errorf("--reload-signal %s: it is ignored, so that holdfast can log to its terminal; want one such as HUP, USR1 or USR2", reaper.SignalName(f.reloadSignal))
	}
	if len(f.activation) > 0 && len(f.listen) == 0 {
		return errors.New("--activation without --listen: there is no held port to tell of; add --listen ADDR")
	}
	if f.watchAction.Text != "" && len(f.watch)+len(f.watchTrigger) == 0 {
		return errors.New("--watch-action without --watch: there is nothing whose change could be acted on; add --watch PATH")
	}
	f.suitNginx()
	if err := f.checkReady(); err != nil {
		return err
	}
	return f.checkPaths()
}

// suitNginx makes sockets non-blocking for nginx, unless the user has said what they are to be. It leaves inherited ones as
// they are, since they come from another nginx; on a blocking one the worker that is not the first to take a connection
// hangs in accept(2), with all the connections that it has, and stops for no signal.
func (f *flags) suitNginx() {
	if !slices.Contains(f.activation, activation.Nginx) {
		return
	}
	for i := range f.listen {
		f.listen[i].Nonblock = f.listen[i].Nonblock || !f.blocks[i]
	}
}

// stopFor has the terminal's stop signals stop the main process for sure: it is, or may be, in an orphaned process group,
// where they do nothing (setpgid(2)). Whoever has rewritten one of them has his way.
func (f *flags) stopFor() {
	for _, s := range []syscall.Signal{syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU} {
		if _, ok := f.rewrite[s]; !ok {
			f.rewrite[s] = syscall.SIGSTOP
		}
	}
}

func (f *flags) checkReady() error {
	fds := 0
	for _, m := range f.ready {
		switch {
		case m.Kind == ready.FD:
			if fds++; fds > 1 {
				return fmt.Errorf("--ready %s: only one descriptor can be waited for", m)
			}
			if first := activation.First + len(f.listen); m.FD < first {
				return fmt.Errorf("--ready %s: the held ports have the descriptors up to %d; want fd:%d or more", m, first-1, first)
			}
		case m.Kind == ready.HTTP && m.Port == 0 && !f.holdsStream() && f.takeover == handoff.TakeoverOff:
			return fmt.Errorf("--ready %s: no held port to ask on; want http:PORT%s, or a --listen for TCP or a path", m, m.Path)
		}
	}
	return nil
}

func (f *flags) holdsStream() bool {
	for _, spec := range f.listen {
		if spec.Network != "udp" {
			return true
		}
	}
	return false
}

// checkPaths finds out now what would else fail at the first handoff.
func (f *flags) checkPaths() error {
	if f.envFile != "" {
		if _, err := activation.EnvFile(f.envFile); err != nil {
			return fmt.Errorf("--env-file %s: %w; want a readable file of NAME=value lines", f.envFile, err)
		}
	}
	if f.envDir != "" {
		if _, err := activation.EnvDir(f.envDir); err != nil {
			return fmt.Errorf("--env-dir %s: %w; want a readable directory of files", f.envDir, err)
		}
	}
	return nil
}

// options is what the loop takes.
func (f *flags) options(log *slog.Logger) (handoff.Options, error) {
	return handoff.Options{
		Command: f.command, Environ: os.Environ(), Version: version,
		Listen: f.listen, Activation: f.activation,
		Takeover: f.takeover, TakeoverAt: f.takeoverAt, TakeoverExclude: f.takeoverExclude, PortsMayChange: f.portsMayChange, V6Only: handoff.BindV6Only(),
		ReloadSignal: f.reloadSignal, WatchAction: f.watchAction, Check: f.check,
		Ready: f.ready, ReadyTimeout: f.readyTimeout,
		Headroom: f.headroom, Sequential: f.sequential, StopSignal: f.stopSignal, Soak: f.soak, Settle: f.settle,
		DrainTimeout: f.drainTimeout, WaitConnections: f.waitConnections, MaxDraining: f.maxDraining,
		Restart: f.restart, ShutdownDelay: f.shutdownDelay, GracePeriod: f.gracePeriod,
		EnvFile: f.envFile, EnvDir: f.envDir,
		Bare: f.plain, Group: f.group, Session: f.session, AtRoot: f.atRoot, JobControl: f.jobControl, Follow: f.follow, LogReaped: f.logReaped,
		Rewrite: f.rewrite, RemapExit: f.remapExit,
		Log: log, Clock: clock.RealClock{},
	}, nil
}
