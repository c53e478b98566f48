package main

import (
	"log/slog"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"holdfast/handoff"
	"holdfast/handoff/activation"
	"holdfast/handoff/machine"
)

// define makes the table of the flags, from which all else that tells of them is made: the help, the man page,
// docs/flags.md, the completion scripts and the variables. To add a flag, add its line to the section where a reader
// would look for it, and run make docs. A placeholder in `backquotes` says what the value is; FILE, PATH, DIR, COMMAND and
// SIGNAL are completed as such. The default is the value at this point, and is not repeated in the text.
func (f *flags) define() {
	s := pflag.NewFlagSet("holdfast", pflag.ContinueOnError)
	s.SetInterspersed(false) // flags end at the first word that is not one
	s.SortFlags = false
	s.Usage = func() {}
	f.set = s

	f.section("Held ports")
	f.list("listen", "", "hold `[NAME=]ADDR` from before the first start: :8080, 127.0.0.1:80, [::1]:80, udp://:53, unix:///run/app.sock?mode=0660 (options: mode, backlog, nonblock)", f.addListen)
	f.list("activation", "", "also tell of held ports as `SERVER` wants it: nginx (whose sockets do not block, unless nonblock=0 is said), php-fpm or inetd", f.addActivation,
		string(activation.Nginx), string(activation.PHPFPM), string(activation.Inetd))
	choose(f, &f.takeover, "takeover", "`WHEN` to hold what the child binds for itself: auto, off, or require: do not start where the kernel cannot",
		as("auto", handoff.TakeoverAuto), as("off", handoff.TakeoverOff), as("require", handoff.TakeoverRequire))
	choose(f, &f.takeoverAt, "takeover-at", "`CALL` at which a socket becomes holdfast's: bind, or socket, for a program that watches its socket (epoll) before it binds it; each socket(2) and connect(2) then costs some 0.1 ms more",
		as("bind", handoff.AtBind), as("socket", handoff.AtSocket))
	f.list("takeover-exclude", "", "do not hold this `PORT` when the child binds it", f.addExclude)
	s.BoolVar(&f.portsMayChange, "ports-may-change", false, "a new generation need not open all the ports that the live one has")

	f.section("Triggers")
	f.reloadSignal = syscall.SIGHUP
	f.signal(&f.reloadSignal, "", "reload-signal", "", "`SIGNAL` that triggers a handoff")
	f.list("watch", "", "hand over when the content of this file or directory (`PATH`; a mounted ConfigMap) changes", f.addWatch)
	f.list("watch-trigger", "", "the same for a file (`PATH`) that is no configuration, such as the pod's annotations: its content is not in the hash that tells which configuration runs", f.addWatchTrigger)
	s.Var(watchAction{&f.watchAction}, "watch-action", "`WHAT` to do then: handoff, or, for a server that reloads itself, signal:SIGNAL to it, or exec:COMMAND; the check runs first")
	f.duration(&f.watchDebounce, "watch-debounce", time.Second, "quiet time after a change before the handoff")
	f.duration(&f.watchJitter, "watch-jitter", 0, "up to so much more, at random, so that a fleet does not move at once")
	s.Func("check", "`COMMAND` that must exit 0 before a handoff starts anything", setCommand(&f.check))

	f.section("Readiness")
	f.list("ready", "", "how a generation proves that it is ready (`MODE`): accept, http:[PORT]/PATH, tcp:PORT, notify, fd:N, exec:COMMAND, delay:DURATION; all must hold", f.addReady,
		"accept", "http:", "tcp:", "notify", "fd:", "exec:", "delay:").DefValue = "accept"
	f.duration(&f.readyTimeout, "ready-timeout", time.Minute, "then a new generation has failed")

	f.section("The handoff")
	choose(f, &f.sequential, "strategy", "`HOW` to hand over: overlap, or sequential: stop the old generation, then start the new one",
		as("overlap", false), as("sequential", true))
	f.headroom = machine.HeadroomWarn
	choose(f, &f.headroom, "memory-headroom", "`WHAT` to do where a second generation, taken to need what the live one does, would not fit the cgroup's memory limit: warn, refuse the handoff, hand over sequentially this time, or off: do not look",
		as("warn", machine.HeadroomWarn), as("refuse", machine.HeadroomRefuse), as("sequential", machine.HeadroomSequential), as("off", machine.HeadroomOff))
	f.duration(&f.soak, "soak", 0, "keep the old generation whole for so long after the cutover, and turn back if the new one fails")
	f.duration(&f.settle, "settle", time.Second, "time for connections that were on their way to the old generation at the cutover, and for a server to take what a watch action has told it")
	f.signal(&f.stopSignal, "auto", "stop-signal", "", "`SIGNAL` that tells a generation to drain and stop; auto: TERM, but QUIT for nginx and php-fpm, USR1 for haproxy, WINCH for httpd")
	f.duration(&f.drainTimeout, "drain-timeout", 30*time.Second, "time for a generation to end after its stop signal; then SIGKILL")
	s.BoolVar(&f.waitConnections, "drain-wait-connections", false, "hold the stop signal back until the old generation's connections are gone, or half the drain timeout is")
	s.IntVar(&f.maxDraining, "max-draining", 8, "more old generations than `N` that still drain: the oldest is killed")

	f.section("Environment")
	s.StringVar(&f.envFile, "env-file", "", "`FILE` of NAME=value lines, read anew for every generation")
	s.StringVar(&f.envDir, "env-dir", "", "`DIR` of files, each a variable (a mounted ConfigMap), read anew for every generation")

	f.section("The end")
	choose(f, &f.restart, "restart", "`WHEN` to start anew after a live generation has exited on its own: never (exit with its code), on-failure, always",
		as("never", machine.Never), as("on-failure", machine.OnFailure), as("always", machine.Always))
	s.BoolVar(&f.follow, "follow", false, "a server that forks its successor and exits goes on: the process named by MAINPID=, or a descendant that has its listening sockets, becomes the main one")
	f.duration(&f.shutdownDelay, "shutdown-delay", 0, "on SIGTERM: not ready at once, but go on serving for so long")
	f.duration(&f.gracePeriod, "grace-period", 0, "at the end, by SIGTERM or of the main process: what is left gets its stop signal, and SIGKILL after so long; 0s: never")
	s.StringVar(&f.terminationLog, "termination-log", terminationLog, "`FILE` to which the reason of a fatal end is added, if it exists: Kubernetes' terminationMessagePath; empty: none")
	f.list("remap-exit", "e", "exit with 0 where the code would be `CODE`, or with TO (CODE:TO)", f.addRemap)

	f.section("As an init")
	s.BoolVarP(&f.group, "group", "g", false, "send signals to the main process' group, not to it alone")
	f.list("rewrite", "r", "pass signal FROM on as TO (`FROM:TO`; TO 0: drop it)", f.addRewrite)
	f.signal(&f.pdeathsig, "", "pdeathsig", "p", "`SIGNAL` for holdfast itself when its parent dies")
	s.BoolVar(&f.jobControl, "job-control", false, "SIGTSTP, SIGTTIN and SIGTTOU stop the main process, and holdfast too unless it is PID 1; SIGCONT has both go on")
	s.BoolVarP(&f.logReaped, "warn-reap", "w", false, "tell of each orphan that was reaped")
	s.BoolP("subreaper", "s", false, "accepted for tini's sake: it is automatic")
	s.BoolP("single-child", "c", false, "accepted for dumb-init's sake: it is the default")

	f.section("What it says")
	s.StringVar(&f.probeAddr, "probe-addr", ":9902", "`ADDR` of /livez, /readyz, /metrics and /statusz; empty: none")
	f.logFormat = "text"
	choose(f, &f.logFormat, "log-format", "`FORMAT` of the log on stderr: text or json",
		as("text", "text"), as("json", "json"))
	choose(f, &f.logLevel, "log-level", "`LEVEL`: debug, info, warn or error",
		as("debug", slog.LevelDebug), as("info", slog.LevelInfo), as("warn", slog.LevelWarn), as("error", slog.LevelError))
	s.BoolVarP(&f.verbose, "verbose", "v", false, "the same as --log-level debug")
	s.BoolVarP(&f.quiet, "quiet", "q", false, "the same as --log-level error")
	s.BoolVar(&f.version, "version", false, "print the version")
}
