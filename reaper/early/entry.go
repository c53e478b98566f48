//go:build holdfast_entry

package early

// The program's entry point is holdfast_entry, before Go's own, where it is built with
//
//	-tags holdfast_entry -ldflags '-E holdfast_entry -checklinkname=0'
//
// as make build does. From there to install, which is the first half millisecond of PID 1, every signal is blocked, and so
// waits for its turn. Go would do the opposite: once its handler is in place, and nobody has asked for the signal yet, HUP,
// INT, QUIT, ABRT and TERM end a PID 1 with code 2, and Go unblocks those five in each of its threads, whatever it was given
// (runtime/signal_unix.go: blockableSig, Go 1.26). So for that time they are in its table of signals (sigtable, of which
// each entry is 24 bytes that begin with the flags) what SIGUSR1 is. A table that is not as expected is left as it is; then
// the five do what they do in any Go program. The case of e2e/init that sends TERM 0 to
// 5 ms after the exec tells.
//
// The other thing that Go insists on is that descriptors 0 to 2 are open: it opens /dev/null for one that is not, and where
// there is none, it ends. Such a one is an empty epoll set here: reading it and writing to it fail, as if it were closed.
//
// -checklinkname=0 is what lets assembly name a variable of the runtime's. Built without all this, the package works all
// the same, but for that time.

// spared says that the table is changed.
//
//lint:ignore U1000 the assembly uses it
var spared uint32

// mend gives Go's table of signals back as it was.
func mend()
