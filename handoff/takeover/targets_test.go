package takeover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"holdfast/reaper"
)

// targets are the programs behind the filter. They write to stdout.
func targets() map[string]func(args []string) {
	return map[string]func([]string){
		"serve":      serve,
		"once":       once,
		"binds":      binds,
		"apart":      apart,
		"options":    options,
		"unnotified": unnotified,
		"grandchild": grandchild,
		"pointers":   pointers,
		"nested":     nested,
		"sockets":    sockets,
		"given":      given,
		"preempted":  preempted,
		"gives":      gives,
		"faulting":   faulting,
		"gonet":      gonet,
	}
}

// startBehind starts a program behind a filter, waits for its end and returns why it did not run.
func startBehind(f *reaper.Filter, command ...string) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	if len(command) == 0 {
		command = []string{"/bin/true"}
	}
	c := reaper.Command{Argv: command, Report: int(write.Fd()), Terminal: -1, Filter: f}
	pid, err := new(reaper.Reaper).Start(c)
	write.Close()
	if err != nil {
		return err
	}
	report, err := io.ReadAll(read)
	if err != nil {
		return err
	}
	if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
		return err
	}
	return Explain(c.Outcome(report))
}

func must[T any](v T, err error) T {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	return v
}

func loopback(port string) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: must(strconv.Atoi(port))}
}

// serve does what a C server does, and greets one client.
func serve(args []string) {
	fd := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0))
	must(0, unix.Bind(fd, loopback(args[0])))
	must(0, unix.Listen(fd, 16))
	sa := must(unix.Getsockname(fd)).(*unix.SockaddrInet4)
	flags := must(unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0))
	fmt.Println("listening on", sa.Port, "cloexec", flags&unix.FD_CLOEXEC != 0)
	must(unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1))
	conn, _, err := unix.Accept(fd)
	must(0, err)
	must(unix.Write(conn, []byte("hello")))
}

func gonet(args []string) {
	l := must(net.Listen("tcp", "127.0.0.1:"+args[0]))
	fmt.Println("listening on", netip.MustParseAddrPort(l.Addr().String()).Port())
	conn := must(l.Accept())
	must(conn.Write([]byte("hello")))
	conn.Close()
}

// once binds once and says how that went.
func once(args []string) {
	fd := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
	fmt.Println("bind:", unix.Bind(fd, loopback(args[0])))
}

// binds does many binds in many threads: count, threads.
func binds(args []string) {
	count, threads := must(strconv.Atoi(args[0])), must(strconv.Atoi(args[1]))
	var group sync.WaitGroup
	var bad atomic.Int64
	begin := time.Now()
	for range threads {
		group.Go(func() {
			runtime.LockOSThread()
			for range count / threads {
				fd := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
				if unix.Bind(fd, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}) != nil {
					bad.Add(1)
				}
				unix.Close(fd)
			}
		})
	}
	group.Wait()
	fmt.Printf("%d failed, %.0f a second\n", bad.Load(), float64(count)/time.Since(begin).Seconds())
}

// apart binds once in each of so many threads.
func apart(args []string) {
	var group sync.WaitGroup
	for range must(strconv.Atoi(args[0])) {
		group.Go(func() { once([]string{"0"}) })
	}
	group.Wait()
}

// options sets what is notified and what is not.
func options([]string) {
	fd := must(unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0))
	must(0, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1))
	must(0, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	must(0, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0))
	must(0, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	must(0, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	must(0, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1))
	must(0, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 50000))
	must(0, unix.SetsockoptByte(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1))
	_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "xxxo") // there is none of that name
	// What is above the kernel's int must make no difference, and a short value is its own business.
	value := int32(7)
	const above = 0xdead << 32
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET|above, unix.SO_REUSEPORT|above, uintptr(unsafe.Pointer(&value)), 4|above, 0)
	fmt.Println("above:", errno)
	_, _, errno = unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, uintptr(unsafe.Pointer(&value)), 2, 0)
	fmt.Println("short:", errno)
	_, _, errno = unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 8, 4, 0)
	fmt.Println("pointer:", errno)
	long := [65]int32{1}
	_, _, errno = unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, uintptr(unsafe.Pointer(&long)), 260, 0)
	fmt.Println("long:", errno)
	_, _, errno = unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, uintptr(unsafe.Pointer(&long)), ^uintptr(0), 0)
	fmt.Println("negative:", errno)
}

// unnotified does much, and nothing that is notified.
func unnotified([]string) {
	for range 100 {
		fd := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
		must(0, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		must(0, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
		must(unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT))
		must(unix.Getsockname(fd))
		must(0, unix.Close(fd))
		unix.Getpid()
	}
}

// grandchild has a child whose child binds.
func grandchild(args []string) {
	if left := args[1]; left != "0" {
		cmd := exec.Command("/proc/self/exe", args[0], strconv.Itoa(must(strconv.Atoi(left))-1))
		cmd.Stdout = os.Stdout
		must(0, cmd.Run())
		return
	}
	once(args)
}

// pointers calls bind with what no sane program gives it.
func pointers([]string) {
	fd := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
	page := must(unix.Mmap(-1, 0, 2*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE))
	start := uintptr(unsafe.Pointer(&page[0]))
	must(0, unix.Mprotect(page[os.Getpagesize():], unix.PROT_NONE))
	across := start + uintptr(os.Getpagesize()) - 4 // half of the address is in the page that may not be read
	for _, c := range []struct {
		what        string
		at, length  uintptr
		alwaysFails bool
	}{
		{"nil", 0, 16, true}, {"low", 8, 16, true}, {"kernel", 0xffff_8000_0000_0000, 16, true}, {"top", ^uintptr(0) - 3, 16, true},
		{"unmapped", 0x10_0000_0000, 16, true}, {"across", across, 16, true},
		{"length 0", start, 0, true}, {"length 1", start, 1, true}, {"length 1<<30", start, 1 << 30, true},
		{"length -1", start, ^uintptr(0), true}, {"length 129", start, 129, true}, {"length 15", start, 15, true},
	} {
		_, _, errno := unix.Syscall(unix.SYS_BIND, uintptr(fd), c.at, c.length)
		fmt.Printf("%s: %v\n", c.what, errno != 0 == c.alwaysFails)
	}
	for _, fd := range []uintptr{0, 1 << 30, ^uintptr(0), 0xdead_0000_0000 | 2} { // 0, not open, -1, 2
		_, _, errno := unix.Syscall(unix.SYS_BIND, fd, start, 16)
		fmt.Printf("descriptor: %v\n", errno == unix.ENOTSOCK || errno == unix.EBADF)
	}
}

// nested starts a program behind a second filter.
func nested([]string) {
	holder, child, err := Pair()
	must(0, err)
	err = startBehind(FilterOptions{}.Filter(child, true))
	unix.Close(child)
	_, told := Receive(context.Background(), holder)
	fmt.Println("nested:", errors.Is(err, ErrNested), errors.Is(told, ErrNested), errors.Is(told, unix.EBUSY))
	once([]string{"0"}) // the first filter is in place all the same
}

// sockets binds one socket of each kind to something that can't be bound to.
func sockets([]string) {
	for _, s := range []struct{ family, kind, protocol int }{
		{unix.AF_INET, unix.SOCK_STREAM, 0}, {unix.AF_INET6, unix.SOCK_STREAM, 0},
		{unix.AF_INET, unix.SOCK_DGRAM, 0}, {unix.AF_INET6, unix.SOCK_DGRAM, 0},
		{unix.AF_UNIX, unix.SOCK_STREAM, 0}, {unix.AF_UNIX, unix.SOCK_DGRAM, 0}, {unix.AF_UNIX, unix.SOCK_SEQPACKET, 0},
		{unix.AF_NETLINK, unix.SOCK_RAW, 0},
		{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}, {unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP},
	} {
		for _, flags := range []int{0, unix.SOCK_NONBLOCK, unix.SOCK_CLOEXEC} {
			fd, err := unix.Socket(s.family, s.kind|flags, s.protocol)
			if err != nil {
				fmt.Println("none:", s.family, s.protocol, err)
				continue
			}
			var stat unix.Stat_t
			must(0, unix.Fstat(fd, &stat))
			fmt.Println("inode", stat.Ino)
			_, _, _ = unix.Syscall(unix.SYS_BIND, uintptr(fd), 0, 0)
			unix.Close(fd)
		}
	}
}

// given makes a socket and says what it got.
func given([]string) {
	low := must(unix.Open("/dev/null", unix.O_RDONLY, 0)) // what the kernel would give next
	unix.Close(low)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(0, err)
	flags := must(unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0))
	sa := must(unix.Getsockname(fd)).(*unix.SockaddrInet4)
	fmt.Println("got", fd == low, sa.Port, "cloexec", flags&unix.FD_CLOEXEC != 0)
	local := must(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0))
	raw := must(unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 0))
	fmt.Println("others", local > 0, raw > 0)
	_, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	fmt.Println("udp:", err)
}

// preempted binds again and again on a thread that gets SIGURG as fast as a ticker can, as Go's scheduler sends it.
func preempted(args []string) {
	runtime.LockOSThread()
	tid, count := unix.Gettid(), must(strconv.Atoi(args[0]))
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(200 * time.Microsecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case <-tick.C:
				_ = unix.Tgkill(os.Getpid(), tid, syscall.SIGURG)
				if n%16 == 0 {
					runtime.GC()
				}
			}
		}
	})
	wrong := 0
	for range count {
		fd := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
		err := unix.Bind(fd, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}})
		if sa, _ := unix.Getsockname(fd); err != nil || sa.(*unix.SockaddrInet4).Port == 0 {
			wrong++
		}
		unix.Close(fd)
	}
	close(done)
	group.Wait()
	fmt.Println("wrong:", wrong)
}

// gives makes many sockets, none of which may be what stdin is.
func gives(args []string) {
	wrong := 0
	for range must(strconv.Atoi(args[0])) {
		fd := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
		if fd < 3 {
			wrong++
			continue
		}
		unix.Close(fd)
	}
	fmt.Println("wrong:", wrong)
}

// faulting binds to an address in memory whose page faults nobody answers, and beside that as usual.
func faulting([]string) {
	uffd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		fmt.Println("none:", errno)
		return
	}
	page := must(unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE))
	at := uintptr(unsafe.Pointer(&page[0]))
	api := [3]uint64{0xaa}                                         // struct uffdio_api
	register := [4]uint64{uint64(at), uint64(os.Getpagesize()), 1} // struct uffdio_register, MODE_MISSING
	for _, call := range []struct{ request, arg uintptr }{
		{0xc018aa3f, uintptr(unsafe.Pointer(&api))}, {0xc020aa00, uintptr(unsafe.Pointer(&register))},
	} {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uffd, call.request, call.arg); errno != 0 {
			fmt.Println("none:", errno)
			return
		}
	}
	done := make(chan struct{})
	go func() {
		fd := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
		_, _, _ = unix.Syscall(unix.SYS_BIND, uintptr(fd), at, 16)
		close(done)
	}()
	for range 10 {
		once([]string{"0"})
	}
	<-done
}
