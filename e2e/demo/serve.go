package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/e2e/load"
)

// exitBroken is the sample server's code when it is told to exit.
const exitBroken = 3

// serve is the sample server: it takes the socket of LISTEN_FDS, reads its version and behaviour once, at its start,
// and ends gracefully when ctx does.
func serve(ctx context.Context, dir string) int {
	version, err := read(dir, "version")
	if err != nil {
		return complain(err)
	}
	behaviour, err := read(dir, "behaviour")
	if err != nil {
		return complain(err)
	}
	if behaviour == behaviourExit {
		return exitBroken
	}
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || os.Getenv("LISTEN_FDS") != "1" {
		return complain(errors.New("given no socket: this server is for `holdfast demo`"))
	}
	f := os.NewFile(3, "listener")
	ln, err := net.FileListener(f)
	if err != nil {
		return complain(err)
	}
	_ = f.Close()

	generation := os.Getenv("HOLDFAST_GENERATION")
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Generation", generation)
		w.Header().Set("X-Version", version)
		_, _ = fmt.Fprintf(w, "version=%s generation=%s\n", version, generation)
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if behaviour == behaviourBroken {
			http.Error(w, "the database is on fire", http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	s := http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(ln) }()
	select {
	case err := <-failed:
		return complain(err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(end); err != nil {
		return complain(err)
	}
	return 0
}

func read(dir, name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	return strings.TrimSpace(string(b)), err
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, "demo serve:", err)
	return codeLost
}

// versions remembers which version each generation answered as.
type versions struct {
	mu sync.Mutex
	by map[int]string
}

func newVersions() *versions { return &versions{by: map[int]string{}} }

// generation reads an answer for the load. A generation that answers as two versions is an error.
func (v *versions) generation(a load.Answer) (int, error) {
	g, err := load.GenerationOf(a)
	if err != nil {
		return 0, err
	}
	version := a.Header["x-version"]
	v.mu.Lock()
	defer v.mu.Unlock()
	if known, ok := v.by[g]; ok && known != version {
		return 0, fmt.Errorf("generation %d answered as %s and as %s", g, known, version)
	}
	v.by[g] = version
	return g, nil
}

func (v *versions) of(generation int) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if version, ok := v.by[generation]; ok {
		return version
	}
	return "-"
}
