// Package early catches signals before anything else in the program runs, and says of each who sent it.
//
// Two things are wrong with os/signal for an init. It begins when main does, and the packages of this program take a few
// milliseconds before that, in which a SIGHUP or SIGTERM would end a Go program that is PID 1 with code 2, where the kernel
// spares a C program. And it hides the sender, the order and the number: what the runtime sends to itself (SIGURG) and what
// a write to a reader that has left raises (SIGPIPE) look like a user's, real-time signals merge, and SIGPROF and 32 to 34
// do not come at all.
//
// So a handler of our own, two dozen instructions that touch no Go, writes the head of each siginfo_t to a pipe. The
// package imports nothing but the runtime, so that the Go linker's order of initialisation puts it first, right behind that.
//
// Signals keep their order because one thread takes them, the process' first one. Else the kernel would give the second
// of two to another thread while the first is still on its way out of the kernel, and that one may well write first. No
// program can have Go's threads begin with signals blocked; so whichever of them is given one, it is the last: from then
// on it has them blocked. A visit (see Visit) does the same without a signal.
//
// Not caught are SIGKILL and SIGSTOP, which nobody can; faults of this process' own and the runtime's own SIGURG, which the
// handler passes on to the Go runtime's. SIGTTIN and SIGTTOU are ignored: after the child has got the terminal's foreground,
// this process must be able to log to it (tini does the same).
//
// SIGCHLD could be left to os/signal, but that keeps two threads for itself: one waits for signals, one is locked to the
// goroutine that unblocks them. A program that needs a thread which the system does not give it is ended by Go.
package early

import "unsafe"

// Info is what the kernel says of a signal: the beginning of siginfo_t (sigaction(2)).
type Info struct {
	Signal int32
	_      int32
	Code   int32 // SI_USER and below: sent by a process; above: by the kernel
	_      int32
	PID    int32 // of the sender, in this process' PID namespace; 0 = from outside it
	UID    int32
	Value  uint64 // of sigqueue(3)
}

// Size is what the handler writes of each signal, in bytes; below PIPE_BUF, so that it is never half a one.
const Size = int(unsafe.Sizeof(Info{}))

const (
	last     = 64 // the last signal (signal(7))
	maskSize = 8
	nsig     = last + 1
)

// The signals that are not as the others (signal(7); the numbers are the same on amd64 and arm64).
const (
	sigILL    = 4
	sigTRAP   = 5
	sigABRT   = 6
	sigBUS    = 7
	sigFPE    = 8
	sigKILL   = 9
	sigSEGV   = 11
	sigSTKFLT = 16
	sigSTOP   = 19
	sigTTIN   = 21
	sigTTOU   = 22
	sigURG    = 23
	sigIO     = 29
	sigSYS    = 31
)

// What the handler needs. It can be given nothing, so it finds them here; they are written before it needs them.
var (
	//lint:ignore U1000 the handler uses it
	output int32 // the pipe's end to write to
	taker  int32 // the first thread, and with it the process
	//lint:ignore U1000 the handler uses it
	block uint64 // what every other thread is to have blocked
	//lint:ignore U1000 the handler uses it
	hold  uint64        // what the first one is to have blocked, too (see Hold)
	chain [nsig]uintptr // Go's own handlers, of the signals that are passed on to it
)

// continued is how often the handler has passed SIGCONT on.
var continued uint32

// state is what install found and made. It runs as this package is initialised: that is the point of it.
var state = install()

type installed struct {
	input int // the pipe's end to read from
	errno int
	old   [nsig]action
	files Limit
}

// Limit is the kernel's struct rlimit64.
type Limit struct{ Soft, Hard uint64 }

const siTkill = -6 // si_code of tgkill(2)

const (
	saSiginfo = 4
	saOnStack = 0x08000000 // Go's stacks are too small for a signal's frame; each of its threads has another for them
	saRestart = 0x10000000
	sigIgnore = 1
)

// call is a system call, by its number on this machine. It is raw: Go's scheduler does not hear of it, and neither does
// package syscall, which would have to be initialised before.
func call(number, a, b, c, d uintptr) (result uintptr)

// failed is the errno of a result, 0 = none.
func failed(result uintptr) int {
	const most = 4095
	if n := -int(result); n > 0 && n <= most {
		return n
	}
	return 0
}

// fault says whether a signal may mean a fault of this process' own: that is Go's, which makes a panic of it.
func fault(s int) bool {
	switch s {
	case sigILL, sigTRAP, sigABRT, sigBUS, sigFPE, sigSEGV, sigSTKFLT, sigSYS:
		return true
	}
	return false
}

func install() installed {
	i := handlers()
	mend()
	unblock()
	const ofFiles = 7 // RLIMIT_NOFILE
	if failed(call(sysPrlimit64, 0, ofFiles, 0, uintptr(unsafe.Pointer(&i.files)))) != 0 {
		i.files = Limit{}
	}
	return i
}

// Files returns the limit of descriptors as this program was given it. Package syscall, which is initialised later, raises
// the soft one and keeps to itself what it was. Zero = it could not be read.
func Files() Limit { return state.files }

func handlers() (i installed) {
	const cloexec, nonblock = 0o2000000, 0o4000
	var ends [2]int32
	if i.errno = failed(call(sysPipe2, uintptr(unsafe.Pointer(&ends)), cloexec|nonblock, 0, 0)); i.errno != 0 {
		return i
	}
	i.input, output = int(ends[0]), ends[1]
	taker = int32(call(sysGetpid, 0, 0, 0, 0))
	// A burst of real-time signals must fit: here 8,192. More would be at the cost of others: pipes of all containers of a node
	// with the same user share 64 MiB (pipe(7), pipe-user-pages-soft). Where this one gets no more, it stays at 64 KiB.
	const room, setPipeSize = 1 << 18, 1031
	call(sysFcntl, uintptr(ends[1]), setPipeSize, room, 0)
	for s := 1; s <= last; s++ {
		if ours(s) && !fault(s) && s != sigURG {
			block |= 1 << (s - 1)
		}
	}
	for s := 1; s <= last; s++ {
		if !ours(s) {
			continue
		}
		// The handler must know it before it runs.
		if set(s, nil, &i.old[s]) == 0 && (fault(s) || s == sigURG) {
			chain[s] = i.old[s].handler
		}
		a := caught()
		if s == sigTTIN || s == sigTTOU {
			a = action{handler: sigIgnore}
		}
		if errno := set(s, &a, nil); errno != 0 && i.errno == 0 {
			i.errno = errno
		}
	}
	return i
}

// unblock has this thread take signals, the program's first one. Whoever started the program may have blocked them, and Go
// leaves that so in all its threads: one that takes them is enough.
func unblock() {
	var none uint64
	const setMask = 2
	call(sysSigprocmask, setMask, uintptr(unsafe.Pointer(&none)), 0, maskSize)
}

// set is sigaction(2). Unlike the C library's, it takes 32 and 33, too.
func set(s int, to, old *action) (errno int) {
	return failed(call(sysSigaction, uintptr(s), uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(old)), maskSize))
}

// Input returns the descriptor from which the signals are to be read, Infos one after the other; it does not block. An
// errno other than 0 means that nothing is caught.
func Input() (fd, errno int) { return state.input, state.errno }

// Bytes returns the memory of infos, to be read into.
func Bytes(infos []Info) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(infos))), len(infos)*Size)
}

// Continued returns how often SIGCONT has come so far, whether it has been read or not. It wraps.
func Continued() uint32 { return continued }

// Visit has a thread of this process block what is caught, so that it takes no signal before another. It is asked to do so
// by a signal, which nobody else hears of. The first thread, which takes them all, blocks what Hold says; once is enough.
func Visit(thread int) {
	if state.errno == 0 {
		call(sysTgkill, uintptr(taker), uintptr(thread), sigIO, 0)
	}
}

// Hold has the first thread block signals, too, so that the kernel keeps them pending; bit 0 is signal 1. What comes before
// it has heard of that is caught as ever.
func Hold(signals uint64) {
	if state.errno == 0 {
		hold |= signals
		Visit(int(taker))
	}
}

// Catch has a signal caught that was left to os/signal, ignored or given its default action meanwhile.
func Catch(s int) {
	if state.errno == 0 {
		a := caught()
		set(s, &a, nil)
	}
}

// Default gives a signal its default action.
func Default(s int) {
	if state.errno == 0 {
		set(s, &action{}, nil)
	}
}

// Mark puts a mark behind all that the first thread has taken so far: it sends that a signal. It may overtake what still waits for
// the process as a whole, since the kernel gives a thread its own first. It fails where too many signals wait
// (RLIMIT_SIGPENDING).
func Mark() bool {
	return state.errno == 0 && failed(call(sysTgkill, uintptr(taker), uintptr(taker), last, 0)) == 0
}

// IsMark says that it is one. No other process can send it: to others tgkill(2) names the sender.
func (i Info) IsMark() bool {
	return i.Signal == last && i.Code == siTkill && i.PID == taker
}

// Release gives every signal back to the Go runtime, as if this package were not there. What has come and was not read is
// returned, oldest first.
func Release() (came []int) {
	if state.errno != 0 {
		return nil
	}
	for s := 1; s <= last; s++ {
		if ours(s) {
			set(s, &state.old[s], nil)
		}
	}
	const eintr = 4
	for {
		var i [1]Info
		n := call(sysRead, uintptr(state.input), uintptr(unsafe.Pointer(&i)), uintptr(Size), 0)
		switch {
		case failed(n) == eintr:
		case int(n) != Size:
			return came
		default:
			came = append(came, int(i[0].Signal))
		}
	}
}

// ours says whether a signal is this package's business.
func ours(s int) bool { return s != sigKILL && s != sigSTOP }
