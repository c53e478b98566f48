// Command holdfast is a container's PID 1: it reaps and forwards signals as tini does, and it holds the pod's listening
// ports, so that the server behind them can be swapped in place without one refused, reset or lost connection.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"holdfast/handoff"
	"holdfast/handoff/activation"
	"holdfast/handoff/control"
	"holdfast/handoff/takeover"
	"holdfast/handoff/trigger"
	"holdfast/probes"
	"holdfast/reaper"
	"holdfast/reaper/catch"
)

// version is set when a release is linked: -X main.version=…
var version = "devel"

// Exit codes of holdfast's own, as docker has them; 126 and 127 come from the child that could not become the program.
const codeError = 125

func main() {
	// A heap of a megabyte or two: Go would let it grow to 4 MiB before it collects, and PID 1 has the time.
	debug.SetGCPercent(25)
	if other, ok := personalityOf(os.Args[0]); ok {
		os.Exit(hold(func() (*flags, error) { return other.parse(os.Args[1:], os.Environ()) }))
	}
	if command, ok := commandOf(os.Args[1:]); ok {
		catch.Release()
		os.Exit(command.run(os.Args[2:], os.Stdout, os.Stderr))
	}
	os.Exit(hold(func() (*flags, error) { return parseFlags(os.Args[1:], os.Environ()) }))
}

// spareThreads makes seven threads in all: two that Go keeps for itself, its monitor and its template, and five to run
// goroutines or wait in system calls for them. More have been needed at once only with os/signal, which kept two of them,
// and on a machine with many times its load.
const spareThreads = 4

// hold is what holdfast is for: run the child behind held ports until it ends.
func hold(parse func() (*flags, error)) (code int) {
	// Else Go starts threads by the number of the node's processors, and threads count against the pod's limit of pids. One
	// is enough: what flows between clients and servers does not pass through here.
	runtime.GOMAXPROCS(1)
	parent := os.Getppid()
	inherited := reaper.Inherited()
	signals, err := catch.Catch()
	if err != nil {
		return complain(os.Stderr, err)
	}
	f, err := parse()
	var said said
	switch {
	case errors.As(err, &said):
		return said.say(os.Stdout, os.Stderr)
	case errors.Is(err, errHelp):
		fmt.Print(usage(f))
		return 0
	case err != nil:
		leaveWord(f.lastWords(), fmt.Sprintf("holdfast: %v", err))
		return complain(os.Stderr, err)
	case f.version:
		fmt.Println("holdfast", version)
		return 0
	}
	spare := make(chan struct{})
	go func() { reaper.SpareThreads(spareThreads); close(spare) }()
	stderr := reaper.NewStderr(int(os.Stderr.Fd()))
	defer stderr.Close(time.Second)
	log := newLog(stderr, f)
	fail := func(err error) (code int) {
		leaveWord(f.lastWords(), fmt.Sprintf("holdfast: %v", err))
		return complain(stderr, err)
	}

	r, err := reaper.New()
	if err != nil {
		return fail(err)
	}
	if limit, ok := catch.Files(); ok {
		r.GiveBack(limit)
	}
	if f.pdeathsig != 0 {
		if err := reaper.DieWithParent(f.pdeathsig, parent); err != nil {
			return fail(fmt.Errorf("--pdeathsig: %w", err))
		}
	}
	if f.jobControl {
		signals.CatchStops()
	}
	if f.pause {
		return pause(r, signals)
	}
	options, err := f.options(log)
	if err != nil {
		return fail(err)
	}
	options.Inherited, options.Passed = inherited, activation.Passed(os.Environ(), r.PID())
	if options.Takeover, err = ableTo(options.Takeover, r, log); err != nil {
		return fail(err)
	}
	watcher, err := newWatcher(f, log)
	if err != nil {
		return fail(fmt.Errorf("--watch, --watch-trigger: %w", err))
	}
	if watcher != nil {
		options.Watch, options.WatchPaths = watcher, f.watch
	}
	// What a handoff has needed of memory goes back to the node at once: the next one may come in a month.
	options.AtRest = debug.FreeOSMemory
	loop, err := handoff.New(options, r, signals)
	if err != nil {
		return fail(explainListen(err))
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := serve(ctx, loop, f, log); err != nil {
		return fail(err)
	}
	if watcher != nil {
		go watcher.Run(ctx, func(c trigger.Change) {
			log.Info("watched content changed", "config", c.Hash, "paths", c.Paths)
			loop.Changed(c.Hash, c.Asked)
		})
	}
	<-spare // the child may use up the limit of processes at once, and Go ends a program that does not get a thread
	code = loop.Run()
	leaveWord(f.lastWords(), loop.LastWords())
	return code
}

// ableTo returns what of the takeover can be done here, and says once what is missing.
func ableTo(wanted handoff.Takeover, r *reaper.Reaper, log *slog.Logger) (handoff.Takeover, error) {
	if wanted == handoff.TakeoverOff {
		return wanted, nil
	}
	err := takeover.Supported()
	if err == nil {
		if err = r.CheckProc(); errors.Is(err, reaper.ErrNoProc) {
			err = fmt.Errorf("%w, which shows whose a socket is: mount it (mount -t proc proc /proc)", err)
		}
	}
	switch {
	case err == nil:
		return wanted, nil
	case wanted == handoff.TakeoverRequire:
		return wanted, fmt.Errorf("--takeover require: %w", err)
	}
	log.Warn("no takeover: what the child binds for itself is not held; use --listen", "err", err)
	return handoff.TakeoverOff, nil
}

// serve answers on the probe address and on the control socket. A taken probe address ends the start, since a pod that
// can never be ready helps nobody; without a control socket only the commands are lost.
func serve(ctx context.Context, loop *handoff.Loop, f *flags, log *slog.Logger) error {
	handler := probes.Handler(loop, version)
	if f.probeAddr != "" {
		l, err := probes.Listen(f.probeAddr)
		if err != nil {
			return fmt.Errorf("--probe-addr: %w", err)
		}
		go run(log, "the probe server ended", func() error { return probes.Serve(ctx, l, handler, log) })
	}
	if f.plain {
		return nil
	}
	l, err := control.Listen(os.Getpid())
	if err != nil {
		log.Warn("no control socket: holdfast reload and status will not find this holdfast", "err", err)
		return nil
	}
	commands := control.Handler{Probes: handler, Reload: func(ctx context.Context, wait bool) (control.Result, error) {
		return reload(ctx, loop, wait)
	}}
	go run(log, "the control socket ended", func() error { return control.Serve(ctx, l, commands) })
	return nil
}

func run(log *slog.Logger, what string, f func() error) {
	if err := f(); err != nil {
		log.Error(what, "err", err)
	}
}

func reload(ctx context.Context, loop *handoff.Loop, wait bool) (control.Result, error) {
	began := time.Now()
	err := loop.Reload(ctx, wait)
	result := control.Result{Generation: loop.Snapshot().Live}
	var failed *handoff.NotCompletedError
	switch {
	case errors.As(err, &failed):
		result.Reason = failed.Error()
	case err != nil:
		return result, err
	case wait:
		result.Completed = true
	}
	if wait {
		result.Seconds = time.Since(began).Seconds()
	}
	return result, nil
}

func newWatcher(f *flags, log *slog.Logger) (*trigger.Watcher, error) {
	if len(f.watch)+len(f.watchTrigger) == 0 {
		return nil, nil
	}
	return trigger.New(trigger.Options{
		Paths: f.watch, Triggers: f.watchTrigger, Debounce: f.watchDebounce, Jitter: f.watchJitter, Clock: clock.RealClock{}, Log: log,
	})
}

func newLog(w io.Writer, f *flags) *slog.Logger {
	options := &slog.HandlerOptions{Level: f.logLevel, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindString && a.Value.String() == "" {
			return slog.Attr{} // reason="" says nothing
		}
		return a
	}}
	if f.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// complain says in one line what is wrong.
func complain(w io.Writer, err error) (code int) {
	fmt.Fprintf(w, "holdfast: %v\n", err)
	return codeError
}

// explainListen adds to the kernel's word on a held port what can be done about it.
func explainListen(err error) error {
	var failed *handoff.ListenError
	if !errors.As(err, &failed) {
		return err
	}
	flag := fmt.Sprintf("--listen %s", failed.Spec)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%s: the address is in use by another process: stop that one, or choose another address (%w)", flag, err)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%s: not permitted: ports below %s need CAP_NET_BIND_SERVICE, paths a writable directory; choose a port above, or grant it (%w)", flag, firstUnprivileged(), err)
	case errors.Is(err, unix.ENOENT) && failed.Spec.Path != "":
		return fmt.Errorf("%s: there is no directory %s: make it, or mount a volume there (%w)", flag, filepath.Dir(failed.Spec.Path), err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("%s: this machine has no such address: want one of its own, or none as in :8080 (%w)", flag, err)
	}
	return fmt.Errorf("%s: %w", flag, err)
}

func firstUnprivileged() string {
	n, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil || len(n) < 2 {
		return "1024"
	}
	return string(n[:len(n)-1])
}
