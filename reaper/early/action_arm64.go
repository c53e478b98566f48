package early

// action is the kernel's struct sigaction. The field for a restorer is there, but arm64 has its own in the vDSO.
type action struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// The address of the function in assembly. (Go's own name for a function is not its address in memory.)
var handlerAddress uintptr

// caught is what install sets: all other signals wait while the handler runs.
func caught() action {
	return action{handler: handlerAddress, flags: saSiginfo | saOnStack | saRestart, mask: ^uint64(0)}
}

// The numbers of the system calls.
const (
	sysRead        = 63
	sysSigaction   = 134
	sysSigprocmask = 135
	sysGetpid      = 172
	sysFcntl       = 25
	sysTgkill      = 131
	sysPipe2       = 59
	sysPrlimit64   = 261
)
