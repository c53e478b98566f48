package catch

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"holdfast/reaper"
	"holdfast/reaper/early"
)

// pendings are the stop signals that have come and that the kernel still keeps pending: of all that has come before, only
// these can be taken back by a SIGCONT (signal(7)). To take such a signal first and to stop by SIGSTOP then, as dumb-init
// does, is to stop for ever if the SIGCONT comes in between, since nobody sends another.
type pendings struct {
	mu   sync.Mutex
	held uint64 // which signals; any other is at most on its way to the thread that takes it
	told uint64 // which have been told of and neither been obeyed nor dropped since
	next uint64 // which of those the next mark is for
}

// stopSignals are those that a process can be stopped by and that it can keep pending; bit 0 is signal 1.
const stopSignals = 1<<(syscall.SIGTSTP-1) | 1<<(syscall.SIGTTIN-1) | 1<<(syscall.SIGTTOU-1)

// watch tells from now on of every stop signal that has come and stays pending. It fails where this process is short of
// descriptors.
func (p *pendings) watch() error {
	set := set(stopSignals)
	fd, err := unix.Signalfd(-1, &set, unix.SFD_CLOEXEC|unix.SFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("signalfd: %w", err)
	}
	came := os.NewFile(uintptr(fd), "stop signals")
	if err := came.SetReadDeadline(time.Time{}); err != nil { // Go's poller does not have it: waiting would fail
		came.Close()
		return err
	}
	raw, err := came.SyscallConn()
	if err != nil {
		came.Close()
		return err
	}
	go func() {
		defer runtime.KeepAlive(came)
		// To read it would take the signal; to be told that it could be read is enough.
		_ = raw.Read(func(uintptr) (done bool) { p.tell(); return false })
	}()
	return nil
}

// hold has signals stay pending.
func (p *pendings) hold(signals uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held |= signals
	early.Hold(signals)
}

// tell puts what has come behind all that was caught before, a SIGCONT above all: none waits any more, since a stop signal takes
// that back. Where it fails, the next signal has it told.
func (p *pendings) tell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if news := waiting(p.held) &^ p.told; news != 0 && early.Mark() {
		p.told |= news
		p.next |= news
	}
}

// marked returns what a mark was for.
func (p *pendings) marked() (all []reaper.Pending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range []syscall.Signal{syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU} {
		if p.next&bit(s) != 0 {
			all = append(all, reaper.Pending(s))
		}
	}
	p.next = 0
	return all
}

func (p *pendings) pending() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return waiting(p.held)
}

// waiting is what waits for this process of those signals that all threads are to have blocked.
func waiting(held uint64) (signals uint64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	block(held) // sigpending(2) tells a thread only of what it has blocked
	unix.RawSyscall(unix.SYS_RT_SIGPENDING, uintptr(unsafe.Pointer(&signals)), unsafe.Sizeof(signals), 0)
	return signals & held
}

// due says whether a signal is still pending, and behind every SIGCONT that has come. If not, it is told of once more, behind
// the SIGCONT, if it is pending then.
func (p *pendings) due(s reaper.Pending, acted uint32) bool {
	if p.pending()&bit(syscall.Signal(s)) != 0 && early.Continued() == acted {
		return true
	}
	p.settle(s)
	return false
}

// suspend has a signal that is still pending do what it does by default, which is to stop this process. If a SIGCONT has
// come in the meantime, it is not pending any more, and nothing happens.
func (p *pendings) suspend(s reaper.Pending) error {
	defer p.settle(s)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	only := bit(syscall.Signal(s))
	block(only)
	early.Default(int(s))
	defer early.Catch(int(s))
	set := set(only)
	if err := unix.PthreadSigmask(unix.SIG_UNBLOCK, &set, nil); err != nil { // here it stops, and here it goes on
		return fmt.Errorf("unblock %s: %w", s, err)
	}
	block(only)
	return nil
}

// drop takes a signal that is still pending, and says whether it was.
func (p *pendings) drop(s reaper.Pending) bool {
	defer p.settle(s)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	only, now := bit(syscall.Signal(s)), unix.Timespec{}
	block(only)
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&only)), 0, uintptr(unsafe.Pointer(&now)), unsafe.Sizeof(only), 0, 0)
	return errno == 0
}

// settle is for what has been obeyed or dropped. It may have come once more by now.
func (p *pendings) settle(s reaper.Pending) {
	p.mu.Lock()
	p.told &^= bit(syscall.Signal(s))
	p.mu.Unlock()
	p.tell()
}

// block has this thread block signals that all are to have blocked; one that Go has just made may not have been visited yet.
func block(signals uint64) {
	set := set(signals)
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil) // fails for an address or a size that is none, only
}

func bit(s syscall.Signal) uint64 { return 1 << (s - 1) }

func set(signals uint64) (s unix.Sigset_t) {
	s.Val[0] = signals
	return s
}
