// Command naughty is a server that misbehaves on order. The end-to-end tests run it under holdfast and steer, for each
// generation, what it does wrong.
//
//	naughty [ADDR…]
//
// It serves HTTP on the sockets of LISTEN_FDS (and answers datagrams on those that are UDP); without any, on the
// addresses that it is given, which it binds itself: HOST:PORT or udp:HOST:PORT. Every answer carries the number of its
// generation, from HOLDFAST_GENERATION, in the header X-Generation and in the body:
//
//	/           "generation=N pid=P"
//	/slow?ms=M  the same after M milliseconds
//	/wait?for=F the same when the file F exists
//	/healthz    "ok", or 500 (see healthy-when)
//	datagrams   the datagram, without its line's end, and " generation=N"
//
// What it does is a list GENERATION:DIRECTIVE[,DIRECTIVE…], separated by blanks, in the environment variable NAUGHTY or
// in the file that NAUGHTY_FILE names (the file wins, and is read at every start, so that a test can change it):
//
//	NAUGHTY="1:ok 2:exit=3 3:ready-after=500ms,ignore-term *:ok"
//
// A generation that is not listed gets "*", or "ok". The directives; D is a duration such as 300ms:
//
//	ok                     a well-behaved server: it takes its time on SIGTERM and finishes what it has begun
//	exit=N                 exits at once with code N
//	hang                   does nothing at all; SIGTERM ends it
//	noaccept               never accepts, but says that it is ready all the same
//	accept-after=D         does not accept before
//	crash-after=D          exits with code 70 so long after its start
//	crash-when=FILE        … when the file exists
//	crash-after-request=D  … after the first request for anything but /healthz has come
//	ignore-term            ignores SIGTERM
//	abrupt                 exits on SIGTERM without finishing anything
//	linger=D               goes on as before for so long after SIGTERM, then shuts down
//	linger-until=FILE      … until the file exists
//	term-exit=N            exits with code N after SIGTERM; 0 by default
//	grandchild             starts a descendant in a session of its own which ignores SIGTERM
//	grandchild=sockets     … that holds the listening sockets as well
//	daemonize              serves from a descendant in a session of its own; the first process exits with code 0
//	ready-after=D          says that it is ready (READY=1 to NOTIFY_SOCKET, a newline to notify-fd) only after D
//	ready-when=FILE        … when the file exists
//	status=TEXT            sends STATUS=TEXT before it
//	barrier                sends BARRIER=1 after it and waits until that was seen
//	notify-fd=N            the descriptor to which a newline is written when ready
//	healthy-when=FILE      /healthz answers 500 until the file exists
//	eat=N                  takes N MiB of memory and keeps them
//	pidfile=FILE           writes its pid to the file, in whole, when it starts
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// crashed is the exit code of every crash made on order.
const crashed = 70

// daemonEnv marks the process that "daemonize" started.
const daemonEnv = "NAUGHTY_DAEMON"

func main() {
	log.SetFlags(0)
	log.SetPrefix("naughty: ")
	if len(os.Args) == 2 && os.Args[1] == "grandchild" {
		signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
		os.Stdout.Close()     // whoever started it may go on: from here it ignores them
		time.Sleep(time.Hour) // longer than any test; PID 1 or the test ends it
		return
	}
	generation := os.Getenv("HOLDFAST_GENERATION")
	do, err := orders(generation)
	if err != nil {
		log.Fatal(err)
	}
	code, err := run(do, generation, os.Args[1:])
	if err != nil {
		log.Fatalf("generation %s: %v", generation, err)
	}
	os.Exit(code)
}

// directives is what to do, by the directive's name; a directive without a value has "".
type directives map[string]string

func (d directives) has(name string) bool { _, ok := d[name]; return ok }

func (d directives) number(name string) int {
	n, err := strconv.Atoi(d[name])
	if err != nil && d.has(name) {
		log.Fatalf("%s=%s: want a number", name, d[name])
	}
	return n
}

func (d directives) duration(name string) time.Duration {
	v, err := time.ParseDuration(d[name])
	if err != nil && d.has(name) {
		log.Fatalf("%s=%s: want a duration", name, d[name])
	}
	return v
}

// orders reads what the generation is to do.
func orders(generation string) (directives, error) {
	text := os.Getenv("NAUGHTY")
	if file := os.Getenv("NAUGHTY_FILE"); file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the orders: %w", err)
		}
		text = string(b)
	}
	mine, others := "", "ok"
	for _, entry := range strings.Fields(text) {
		switch g, list, _ := strings.Cut(entry, ":"); g {
		case generation:
			mine = list
		case "*":
			others = list
		}
	}
	if mine == "" {
		mine = others
	}
	const known = " ok exit hang noaccept accept-after crash-after crash-when crash-after-request ignore-term abrupt linger" +
		" linger-until term-exit grandchild daemonize ready-after ready-when status barrier notify-fd healthy-when pidfile eat "
	do := directives{}
	for _, one := range strings.Split(mine, ",") {
		name, value, _ := strings.Cut(one, "=")
		if !strings.Contains(known, " "+name+" ") {
			return nil, fmt.Errorf("unknown directive %q", one)
		}
		do[name] = value
	}
	return do, nil
}

// run does what it is told until SIGTERM and returns the exit code.
func run(do directives, generation string, addrs []string) (int, error) {
	terminated := make(chan os.Signal, 1)
	if do.has("ignore-term") {
		signal.Ignore(syscall.SIGTERM)
	} else {
		signal.Notify(terminated, syscall.SIGTERM)
	}
	daemon := os.Getenv(daemonEnv) != ""
	if file := do["pidfile"]; file != "" && (daemon || !do.has("daemonize")) {
		if err := writeWhole(file, strconv.Itoa(os.Getpid())+"\n"); err != nil {
			return 0, err
		}
	}
	if do.has("eat") {
		eaten := make([]byte, do.number("eat")<<20)
		for i := 0; i < len(eaten); i += os.Getpagesize() {
			eaten[i] = 1
		}
		defer runtime.KeepAlive(eaten)
	}
	if do.has("exit") {
		return do.number("exit"), nil
	}
	if do.has("crash-after") {
		time.AfterFunc(do.duration("crash-after"), func() { os.Exit(crashed) })
	}
	if do.has("crash-when") {
		go func() {
			await(do["crash-when"])
			os.Exit(crashed)
		}()
	}
	if do.has("hang") {
		<-terminated
		return do.number("term-exit"), nil
	}
	given := givenSockets(daemon)
	if do.has("daemonize") && !daemon {
		return 0, descend(append(os.Environ(), daemonEnv+"=1"), os.Stdout, addrs...)
	}
	if do["grandchild"] == "sockets" {
		// Before they are closed on exec; every descriptor that is not, is inherited.
		if err := bearGrandchild(); err != nil {
			return 0, err
		}
	}
	for _, fd := range given {
		unix.CloseOnExec(fd)
	}
	if do.has("grandchild") && do["grandchild"] == "" {
		if err := bearGrandchild(); err != nil {
			return 0, err
		}
	}
	s, err := open(do, generation, given, addrs)
	if err != nil {
		return 0, err
	}
	go becomeReady(do)
	if !do.has("noaccept") {
		go func() {
			time.Sleep(do.duration("accept-after"))
			s.serve()
		}()
	}
	<-terminated
	if do.has("abrupt") {
		return do.number("term-exit"), nil
	}
	time.Sleep(do.duration("linger"))
	if do.has("linger-until") {
		await(do["linger-until"])
	}
	s.shutdown()
	return do.number("term-exit"), nil
}

// givenSockets lists the descriptors of LISTEN_FDS, when they are meant for this process.
func givenSockets(daemon bool) []int {
	n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if pid := os.Getenv("LISTEN_PID"); pid != strconv.Itoa(os.Getpid()) && !daemon {
		return nil
	}
	var fds []int
	for fd := 3; fd < 3+n; fd++ {
		fds = append(fds, fd)
	}
	return fds
}

// bearGrandchild returns when the grandchild ignores what it is to ignore.
func bearGrandchild() error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	err = descend(os.Environ(), write, "grandchild")
	write.Close()
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, read)
	return err
}

// descend starts this program once more, in a session of its own and with every descriptor that is not closed on exec.
func descend(env []string, stdout *os.File, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a descendant: %w", err)
	}
	return nil
}

// becomeReady says that this process is ready, by each way that it was given.
func becomeReady(do directives) {
	time.Sleep(do.duration("ready-after"))
	if do.has("ready-when") {
		await(do["ready-when"])
	}
	if do.has("notify-fd") {
		if _, err := unix.Write(do.number("notify-fd"), []byte("\n")); err != nil {
			log.Printf("write to notify-fd: %v", err)
		}
	}
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	state := "READY=1\n"
	if do.has("status") {
		state = "STATUS=" + do["status"] + "\n" + state
	}
	err := notify(socket, state, nil)
	if err == nil && do.has("barrier") {
		err = barrier(socket)
	}
	if err != nil {
		log.Printf("notify: %v", err)
	}
}

func notify(socket, state string, rights []byte) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = unix.Sendmsg(fd, []byte(state), rights, &unix.SockaddrUnix{Name: socket}, 0)
	return errors.Join(err, unix.Close(fd))
}

// barrier sends the writing end of a pipe and waits until the receiver has closed it (sd_notify(3)).
func barrier(socket string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	err = notify(socket, "BARRIER=1", unix.UnixRights(int(w.Fd())))
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	_, _ = r.Read(make([]byte, 1)) // EOF when the receiver has closed it
	log.Print("barrier passed")    // what a test can see of it
	return nil
}

// await returns when the file exists.
func await(file string) {
	for !exists(file) {
		time.Sleep(5 * time.Millisecond)
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// writeWhole writes a file so that nobody can read a part of it.
func writeWhole(file, text string) error {
	tmp := filepath.Join(filepath.Dir(file), fmt.Sprintf(".%s.%d", filepath.Base(file), os.Getpid()))
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}
