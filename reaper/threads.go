package reaper

import (
	"runtime"
	"sync"
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
	var begun, ended sync.WaitGroup
	there := make(chan struct{})
	for range n {
		begun.Add(1)
		ended.Go(func() {
			// Each has a thread for itself until all are there. A system call that blocks would do as well, but Go's monitor takes
			// its time to find that.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			begun.Done()
			<-there
		})
	}
	begun.Wait()
	close(there)
	ended.Wait()
}
