// Command witness stands on both sides of an init: "launch" becomes one under given circumstances, and the other roles are
// what runs below it.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 2 {
		fail("no role")
	}
	role, args := os.Args[1], os.Args[2:]
	switch role {
	case "launch":
		launch(args)
	case "blocked":
		blocked()
	case "burst":
		burst(number(args[0]))
	case "rate":
		rate(number(args[0]), number(args[1]))
	case "zombies": // then gone: they are the init's to reap
		zombies(number(args[0]))
	case "keep": // a parent that does not wait
		zombies(number(args[0]))
		fmt.Println("up")
		rest()
	case "threads":
		threads(number(args[0]))
	case "traced":
		traced()
	case "tracee":
		tracee(number(args[0]))
	case "tracer":
		tracer()
	case "reuse":
		reuse()
	default:
		fail("no role " + role)
	}
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, "witness:", why)
	os.Exit(99)
}

func must(what string, err error) {
	if err != nil {
		fail(fmt.Errorf("%s: %w", what, err))
	}
}

// rest does nothing for ever.
func rest() {
	for {
		_ = unix.Pause()
	}
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	must("read a number", err)
	return n
}

func list(text string) (numbers []int) {
	for _, f := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		numbers = append(numbers, number(f))
	}
	return numbers
}

// launch makes the circumstances and becomes the init; or, with -below, starts it as a child and ends with its code.
func launch(args []string) {
	f := flag.NewFlagSet("launch", flag.ExitOnError)
	proc := f.Bool("proc", false, "mount the PID namespace's /proc")
	noProc := f.Bool("noproc", false, "have no /proc at all")
	noDev := f.Bool("nodev", false, "have an empty /dev")
	ignore := f.String("ignore", "", "signals to ignore")
	block := f.String("block", "", "signals to block")
	closed := f.String("close", "", "descriptors to close")
	files := f.Int("files", 0, "limit of open files (soft)")
	given := f.Int("given", 0, "descriptors from 3 on to pass on")
	moment := f.Int("moment", -1, "descriptor to keep open until the very exec")
	background := f.Bool("background", false, "give the terminal's foreground to somebody else")
	below := f.Bool("below", false, "stay, and start the init as a child")
	size := f.Int("env", 0, "bytes of environment to add, with all that the kernel counts")
	last := f.Int("lastpid", 0, "the number after which the next process is counted")
	f.Parse(args)
	runtime.LockOSThread()
	if *proc || *noProc || *noDev {
		must("make mounts private", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	}
	if *proc {
		must("mount /proc", unix.Mount("proc", "/proc", "proc", 0, ""))
	}
	if *noDev {
		must("mount an empty /dev", unix.Mount("none", "/dev", "tmpfs", 0, ""))
	}
	if *noProc {
		must("mount an empty /proc", unix.Mount("none", "/proc", "tmpfs", 0, ""))
	}
	if *last > 0 {
		must("set ns_last_pid", os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(*last)), 0o644))
	}
	if *background {
		standIn()
	}
	if *files > 0 {
		var l syscall.Rlimit
		must("read the limit", syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l))
		l.Cur = uint64(*files)
		must("set the limit", syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l))
	}
	argv := f.Args()
	path, err := exec.LookPath(argv[0])
	must("find the init", err)
	if *below {
		under(path, argv)
	}
	// What the tests themselves have been given is not for the init.
	must("close what was inherited", unix.CloseRange(uint(3+*given), ^uint(0), unix.CLOSE_RANGE_CLOEXEC))
	if *moment >= 0 {
		unix.CloseOnExec(*moment)
	}
	for s := 1; s <= 64; s++ { // whatever the tests themselves were started with
		if s != int(syscall.SIGKILL) && s != int(syscall.SIGSTOP) {
			disposition(s, 0)
		}
	}
	for _, s := range list(*ignore) {
		disposition(s, 1)
	}
	var mask uint64
	for _, s := range list(*block) {
		mask |= 1 << (s - 1)
	}
	setMask(mask)
	for _, fd := range list(*closed) {
		unix.Close(fd)
	}
	must("become the init", syscall.Exec(path, argv, append(os.Environ(), environment(*size)...)))
}

// environment makes variables that take up so many bytes of what execve(2) allows: each its length, a NUL and a pointer.
func environment(size int) (env []string) {
	const most, more = 100_000, 1 + 8
	for n := 0; size > 0; n++ {
		variable := fmt.Sprintf("V%d=", n)
		this := max(min(size, most), len(variable)+more)
		size -= this
		env = append(env, variable+strings.Repeat("x", this-len(variable)-more))
	}
	return env
}

// under runs the init as a child, and passes nothing on to it.
func under(path string, argv []string) {
	pid, err := syscall.ForkExec(path, argv, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	must("start the init", err)
	fmt.Println("init", pid)
	signal.Ignore(syscall.SIGTERM)
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGUSR2) // asks for the end of the parent alone
	go func() {
		<-hangUp
		os.Exit(0)
	}()
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		if got != pid || err != nil {
			continue
		}
		if status.Signaled() {
			fmt.Println("ended", 128+int(status.Signal()))
		} else {
			fmt.Println("ended", status.ExitStatus())
		}
		rest() // whoever is left over can be looked at
	}
}

// standIn starts a process and gives it the foreground of the terminal on descriptor 0.
func standIn() {
	pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setpgid: true}})
	must("start a stand-in", err)
	must("give it the foreground", unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, pid))
}

// disposition is sigaction(2) as the kernel has it: handler 0 is the default, 1 ignores.
func disposition(s int, handler uint64) {
	action := [4]uint64{handler}
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0); errno != 0 {
		fail(errno)
	}
}

func setMask(mask uint64) {
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&mask)), 0, 8, 0, 0); errno != 0 {
		fail(errno)
	}
}

// blocked becomes a program that blocks every signal, so that all that it is sent stays pending, for all to see.
func blocked() {
	runtime.LockOSThread()
	setMask(^uint64(0))
	must("become sleep", syscall.Exec("/bin/sh", []string{"sh", "-c", "echo up; exec sleep 1000"}, os.Environ()))
}

// zombies makes n children that have ended, and waits for none of them.
func zombies(n int) {
	for range n {
		// No exec: it is the number that counts. The child does nothing but end.
		pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
		if pid == 0 && errno == 0 {
			syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
		}
		if errno != 0 {
			fail(errno)
		}
	}
}

// hand has another process make n zombies and end, which hands them on to the init.
func hand(n int) {
	self, err := os.Executable()
	must("find myself", err)
	pid, err := syscall.ForkExec(self, []string{"witness", "zombies", strconv.Itoa(n)}, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	must("start a parent", err)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || status != 0 {
		fail(fmt.Sprint("a parent: ", status, err))
	}
}

func burst(n int) {
	fmt.Println("up")
	hand(n)
	fmt.Println("done")
	rest()
}

// rate hands on so many a second, ten times a second.
func rate(perSecond, seconds int) {
	fmt.Println("up")
	tick := time.NewTicker(100 * time.Millisecond)
	for range 10 * seconds {
		<-tick.C
		hand(perSecond / 10)
	}
	fmt.Println("done")
	rest()
}

// threads ends the main thread first, and the process by another.
func threads(code int) {
	ready := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		<-ready
		for {
			b, err := os.ReadFile("/proc/self/stat")
			if err != nil || strings.Contains(string(b), ") Z ") {
				break
			}
		}
		os.Exit(code)
	}()
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() { // main does not run on it
		fail("not the main thread")
	}
	close(ready)
	syscall.RawSyscall(syscall.SYS_EXIT, 0, 0, 0)
}

func init() { runtime.LockOSThread() } // main runs on the main thread

// traced follows an orphan to its end: the tracer sees it first, and only then it is the init's to reap.
func traced() {
	pids, err := exec.Command("sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!").Output()
	must("make an orphan", err)
	orphan := number(strings.TrimSpace(string(pids)))
	must("trace it", seize(orphan))
	must("end it", syscall.Kill(orphan, syscall.SIGKILL))
	var status syscall.WaitStatus
	for !status.Signaled() {
		_, err = syscall.Wait4(orphan, &status, syscall.WALL, nil)
		must("wait for it", err)
	}
	fmt.Println("traced", orphan)
	rest()
}

// tracee has a child of its own trace it, and ends when that has begun.
func tracee(code int) {
	self, err := os.Executable()
	must("find myself", err)
	began, begins, err := os.Pipe()
	must("make a pipe", err)
	_, err = syscall.ForkExec(self, []string{"witness", "tracer"}, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2, begins.Fd()}})
	must("start a tracer", err)
	must("close", begins.Close())
	if n, _ := began.Read(make([]byte, 1)); n != 1 {
		fail("the tracer has not begun")
	}
	os.Exit(code)
}

// tracer follows its parent to its end, which the init hears of only then.
func tracer() {
	parent := os.Getppid()
	must("trace the parent", seize(parent))
	_, err := syscall.Write(3, []byte{1})
	must("say so", err)
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(parent, &status, syscall.WALL, nil)
		must("wait for the parent", err)
		if !status.Stopped() {
			rest()
		}
		sig := int(status.StopSignal())
		if status>>16 != 0 { // of ptrace's own
			sig = 0
		}
		must("let it go on", syscall.PtraceCont(parent, sig))
	}
}

func seize(pid int) error {
	const ptraceSeize = 0x4206
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PTRACE, ptraceSeize, uintptr(pid), 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// reuse makes orphans one after the other until one has the number of another before it.
func reuse() {
	had := map[int]bool{}
	for range 2000 {
		const last = 20_000 // far from most threads, whose numbers are processes' too
		must("set ns_last_pid", os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(last)), 0o644))
		out, err := exec.Command("/bin/sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!").Output()
		must("make an orphan", err)
		orphan := number(strings.TrimSpace(string(out)))
		must("end it", syscall.Kill(orphan, syscall.SIGKILL))
		for syscall.Kill(orphan, 0) == nil { // until the init has reaped it
		}
		if had[orphan] {
			os.Exit(6)
		}
		had[orphan] = true
	}
	fail("no number came twice")
}
