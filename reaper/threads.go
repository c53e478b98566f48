package reaper

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// SpareThreads has Go make n threads, which then stay, and returns when they are there.
//
// Go makes a thread whenever others are kept by system calls, and ends the program if it can't (newosproc in
// runtime/os_linux.go): on a node whose pids have run out, or in a cgroup whose own have (pids.max), that would be the end
// of the container, and for nothing. Threads that are idle are used before a new one is made.
//
// One more is made by LockOSThread, when it is first called (startTemplateThread in runtime/proc.go).
func SpareThreads(n int) {
	runtime.LockOSThread()
	runtime.UnlockOSThread()
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_CLOEXEC) != nil {
		return
	}
	var begun, ended sync.WaitGroup
	for range n {
		begun.Add(1)
		ended.Go(func() {
			begun.Done()
			_, _ = unix.Read(fds[0], make([]byte, 1)) // keeps its thread until all are there
		})
	}
	begun.Wait()
	unix.Close(fds[1])
	ended.Wait()
	unix.Close(fds[0])
}
