// Command loader puts a steady load on a server behind a Service, from inside the cluster, for as long as its standard
// input is open, and says on its standard output, one JSON object a line, what has become of every request so far. The last
// line is of the load when all requests have ended.
//
//	kubectl exec -i loader -- /loader 10.96.0.17:80
//
// It reads from an answer which version of its configuration the server runs ("version=N"), and counts the answers by it.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"holdfast/e2e/load"
)

// rate is how many requests a second: half of them on connections of their own.
const rate = 150

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "loader:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one address, got %q", args)
	}
	l := load.New(load.Options{
		Address: args[0], NewWorkers: 6, KeepAliveWorkers: 6, Rate: rate, Timeout: 20 * time.Second,
		Duration: 30 * time.Minute, Generation: versionOf,
	})
	closed := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // an error is an end, too
		close(closed)
	}()
	l.Start(context.Background())
	out := json.NewEncoder(os.Stdout)
	for {
		select {
		case <-closed:
			return out.Encode(l.Stop())
		case <-time.After(100 * time.Millisecond):
			if err := out.Encode(l.Snapshot()); err != nil {
				return err
			}
		}
	}
}

// versionOf reads N from "version=N".
func versionOf(a load.Answer) (int, error) {
	_, rest, ok := bytes.Cut(a.Body, []byte("version="))
	if !ok {
		return 0, fmt.Errorf("no version in %.60q", a.Body)
	}
	return strconv.Atoi(string(bytes.TrimSpace(rest)))
}
