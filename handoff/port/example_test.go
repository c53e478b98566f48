package port_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/handoff/port"
)

// A handoff on one port. What stands for the servers here only accepts.
func Example() {
	spec, err := port.ParseSpec("web=127.0.0.1:11972")
	if err != nil {
		fmt.Println(err)
		return
	}
	p := port.New(spec, slog.New(slog.DiscardHandler))
	defer p.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	if err := p.Open(1); err != nil { // the first generation is live at once
		fmt.Println(err)
		return
	}
	if err := p.Open(2); err != nil {
		fmt.Println(err)
		return
	}
	fd, _ := p.FD(2)
	go func() { // the second generation's process
		if conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC); err == nil {
			_ = unix.Close(conn)
		}
	}()
	fmt.Println("proven:", p.ProveAccept(ctx, 2) == nil, "live:", p.Live())
	if err := p.Turn(2); err != nil {
		fmt.Println(err)
		return
	}
	relayed, err := p.Retire(1)
	fmt.Println("live:", p.Live(), "relayed:", relayed, err)
	// Output:
	// proven: true live: 1
	// live: 2 relayed: 0 <nil>
}
