// Command server is the subject in a stock Go server's form: it takes a socket by LISTEN_FDS or SERVER_STARTER_PORT, or
// binds the addresses that it is given, and ends on SIGTERM. Where SUBJECT_NOTE names a file, it adds a line to it at the
// instant in which its own start is done and all that is left is to open its ports: the Unix time in ns.
//
//	server ADDRESS…
package main

import (
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"holdfast/e2e/bench/subject"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("server: ")
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	fault := subject.Begin()
	if err := note(os.Getenv("SUBJECT_NOTE")); err != nil {
		log.Fatal(err)
	}
	var servers []*subject.Server
	for _, address := range addresses(os.Args[1:]) {
		l, err := listen(address)
		if err != nil {
			log.Fatal(err)
		}
		servers = append(servers, subject.New(l, fault))
	}
	for _, s := range servers {
		go s.Serve()
	}
	<-terminated
	var all sync.WaitGroup
	for _, s := range servers {
		all.Go(s.Shutdown)
	}
	all.Wait()
}

func note(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, time.Now().UnixNano())
	return err
}

// addresses is what to bind: nothing, once, where a socket is given.
func addresses(args []string) []string {
	if len(args) == 0 {
		return []string{""}
	}
	return args
}

func listen(address string) (net.Listener, error) {
	fd := 0
	switch port := os.Getenv("SERVER_STARTER_PORT"); {
	case os.Getenv("LISTEN_FDS") == "1" && forThis(os.Getenv("LISTEN_PID")):
		fd = 3
	case port != "":
		_, number, _ := strings.Cut(port, "=")
		n, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("SERVER_STARTER_PORT=%s: %w", port, err)
		}
		fd = n
	}
	if fd == 0 {
		if address == "" {
			return nil, errors.New("no socket was given, and no address")
		}
		return net.Listen("tcp", address)
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close() // what follows works on a duplicate
	return net.FileListener(f)
}

// forThis is lenient: a holder that is the bench itself cannot know the pid before the fork, and names none.
func forThis(pid string) bool { return pid == "" || pid == strconv.Itoa(os.Getpid()) }
