// Command goactivation is a Go server of the usual kind: it takes its sockets through go-systemd's activation package,
// answers with its generation, and shuts down gracefully on SIGTERM. It is a module of its own, so that go-systemd is
// no dependency of holdfast.
//
//	goactivation          serves every socket that it was given
//	goactivation -named   the same through ListenersWithNames; it answers with the socket's name, too
//
//	/           "generation=N pid=P name=NAME"
//	/slow?ms=M  the same after M milliseconds
//	/healthz    "ok"
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
)

func main() {
	named := flag.Bool("named", false, "take the sockets by their names")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := serve(ctx, *named); err != nil {
		log.Fatal(err)
	}
}

// sockets returns the listeners that this process was given, by name ("" without -named).
func sockets(named bool) (map[string][]net.Listener, error) {
	if named {
		return activation.ListenersWithNames()
	}
	all, err := activation.Listeners()
	return map[string][]net.Listener{"": all}, err
}

func serve(ctx context.Context, named bool) error {
	byName, err := sockets(named)
	if err != nil {
		return fmt.Errorf("take the sockets: %w", err)
	}
	var servers []*http.Server
	failed := make(chan error, 1)
	for name, listeners := range byName {
		for _, ln := range listeners {
			if ln == nil {
				continue // a datagram socket
			}
			s := &http.Server{Handler: handler(name), ReadHeaderTimeout: 10 * time.Second}
			servers = append(servers, s)
			go func() {
				if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
					failed <- err
				}
			}()
		}
	}
	if len(servers) == 0 {
		return errors.New("given no listening socket")
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	deadline, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range servers {
		wg.Go(func() { _ = s.Shutdown(deadline) })
	}
	wg.Wait()
	return nil
}

func handler(name string) http.Handler {
	generation := os.Getenv("HOLDFAST_GENERATION")
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Generation", generation)
		fmt.Fprintf(w, "generation=%s pid=%d name=%s\n", generation, os.Getpid(), name)
	}
	mux.HandleFunc("/", answer)
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		ms, _ := strconv.Atoi(r.URL.Query().Get("ms"))
		time.Sleep(min(time.Duration(ms)*time.Millisecond, time.Minute))
		answer(w, r)
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return mux
}
