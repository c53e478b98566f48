// Command bench measures holdfast beside what its users use today, and against the bare machine. It writes the figures to
// docs/benchmarks.json, and from them docs/benchmarks.md and its plots.
//
//	make bench                             the whole of it, in at most 15 minutes
//	make bench-quick                       in at most 2: fewer of everything, written to bin/benchmarks
//	make bench-full                        as many as it should be, however long that takes
//	go run . -only init,data -dry          some parts; print the figures, write nothing
//	go run . -only init,data -out DIR      some parts, added to the figures in DIR
//	go run . -render                       write the document anew from docs/benchmarks.json
//
// Its exit code says whether it could measure, not whether the goals were met: the document says that.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	name := flag.String("size", "whole", "quick, whole or full")
	only := flag.String("only", "", "the parts to measure, with commas between: "+strings.Join(partNames(), ", ")+"; all by default")
	server := flag.String("server", "", "only the ways that hand this server over: Go, nginx, HAProxy, gunicorn, Puma or Node; writes nothing")
	root := flag.String("root", "../..", "the repository")
	dry := flag.Bool("dry", false, "write nothing")
	out := flag.String("out", "", "where to write; the repository's docs by default")
	render := flag.Bool("render", false, "measure nothing: write the document from the figures that there are")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *name, *only, *server, *root, *out, *dry || *server != "", *render); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, name, only, server, root, out string, dry, render bool) error {
	// What this was given itself, by a shell say, is not for those that are measured.
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return err
	}
	// The load's own collections would be in the latencies.
	debug.SetGCPercent(400)
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	docs := filepath.Join(root, "docs")
	if out != "" {
		docs = out
	}
	if render {
		r, err := read(docs)
		if err != nil {
			return err
		}
		return write(docs, r)
	}
	size, ok := sizes()[name]
	if !ok {
		return fmt.Errorf("-size %s: want quick, whole or full", name)
	}
	wanted := partNames()
	if only != "" {
		wanted = strings.Split(only, ",")
	}
	for _, w := range wanted {
		if !slices.Contains(partNames(), w) {
			return fmt.Errorf("-only %s: want some of %s", w, strings.Join(partNames(), ", "))
		}
	}
	began := time.Now()
	note := func(format string, args ...any) {
		fmt.Printf("%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	b, clean, err := prepare(root, size, note)
	if err != nil {
		return err
	}
	defer clean()
	b.server = server
	if only != "" && out != "" {
		if old, err := read(out); err == nil {
			b.results = old
		}
	}
	b.ends = began.Add(size.lasts)
	var trouble error
	for _, p := range parts() {
		if !slices.Contains(wanted, p.name) {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if b.over() {
			b.results.Trouble = append(b.results.Trouble, p.name+": the time was over before it")
			continue
		}
		note("%s …", p.name)
		if err := p.measure(b); err != nil {
			trouble = errors.Join(trouble, fmt.Errorf("%s: %w", p.name, err)) // the others are measured all the same
			b.results.Trouble = append(b.results.Trouble, fmt.Sprintf("%s: %v", p.name, err))
			note("%s: %v", p.name, err)
		}
	}
	b.results.Took = time.Since(began).Seconds()
	note("done")
	if dry || only != "" && out == "" {
		return trouble // the repository's document is of one run
	}
	return errors.Join(trouble, write(docs, b.results))
}
