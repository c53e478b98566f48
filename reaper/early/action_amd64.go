package early

// action is the kernel's struct sigaction.
type action struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const saRestorer = 0x04000000

// The addresses of the two functions in assembly. (Go's own name for a function is not its address in memory.)
var handlerAddress, restorerAddress uintptr

// caught is what install sets: all other signals wait while the handler runs.
func caught() action {
	return action{handler: handlerAddress, flags: saSiginfo | saOnStack | saRestart | saRestorer, restorer: restorerAddress, mask: ^uint64(0)}
}

// The numbers of the system calls.
const (
	sysRead        = 0
	sysSigaction   = 13
	sysSigprocmask = 14
	sysGetpid      = 39
	sysFcntl       = 72
	sysTgkill      = 234
	sysPipe2       = 293
	sysPrlimit64   = 302
)
