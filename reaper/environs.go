package reaper

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// environs reads the environments of processes, and waits for none: /proc/PID/environ takes the lock of a process' memory,
// and one that hangs in the kernel with that lock, on a dead NFS server say, would hang its reader too.
type environs struct {
	mu   sync.Mutex
	busy map[int]bool // those whose reading has not returned yet
}

// environIn is how long a reading may take. It takes microseconds.
const environIn = 50 * time.Millisecond

var errStuck = errors.New("its environment cannot be read now: it hangs in the kernel")

// read returns a process' environment, or errStuck.
func (e *environs) read(pid int) ([]byte, error) {
	if !e.begin(pid) {
		return nil, errStuck
	}
	type result struct {
		env []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		defer e.end(pid)
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		done <- result{env, err}
	}()
	timeout := time.NewTimer(environIn)
	defer timeout.Stop()
	select {
	case r := <-done:
		return r.env, r.err
	case <-timeout.C:
		return nil, errStuck
	}
}

func (e *environs) begin(pid int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.busy[pid] {
		return false
	}
	if e.busy == nil {
		e.busy = map[int]bool{}
	}
	e.busy[pid] = true
	return true
}

func (e *environs) end(pid int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.busy, pid)
}
