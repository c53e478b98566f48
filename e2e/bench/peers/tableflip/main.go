// Command tableflip is the subject on cloudflare/tableflip, as its documentation has it: SIGHUP upgrades, and the process
// that was upgraded from ends. It is a module of its own so that only who measures needs tableflip.
//
//	tableflip ADDRESS PIDFILE
package main

import (
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/cloudflare/tableflip"

	"holdfast/e2e/bench/subject"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("tableflip: ")
	if len(os.Args) != 3 {
		log.Fatal("want ADDRESS PIDFILE")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(address, pidFile string) error {
	upgrader, err := tableflip.New(tableflip.Options{PIDFile: pidFile})
	if err != nil {
		return err
	}
	defer upgrader.Stop()
	hangups := make(chan os.Signal, 64)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for range hangups {
			if err := upgrader.Upgrade(); err != nil {
				log.Printf("upgrade: %v", err)
			}
		}
	}()
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	fault := subject.Begin()
	l, err := upgrader.Listen("tcp", address)
	if err != nil {
		return err
	}
	s := subject.New(l, fault)
	go s.Serve()
	if err := upgrader.Ready(); err != nil {
		return err
	}
	select {
	case <-upgrader.Exit():
	case <-terminated:
	}
	s.Shutdown()
	return nil
}
