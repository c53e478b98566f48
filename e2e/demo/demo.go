// Package demo is the command `holdfast demo`: it runs a small server under holdfast, puts load on it, and lets one see
// what a handoff does to that load. It needs nothing but the binary itself, no privilege, and no network but loopback.
//
//	holdfast demo            the show; its exit code is 0 only if all went as it must
//	holdfast demo serve DIR  the sample server that the show runs
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/e2e/load"
	"holdfast/handoff/status"
)

// The exit codes, besides 0.
const (
	codeLost        = 1   // something was lost, or a step did not have its outcome
	codeError       = 125 // the demo could not be made, as docker has it
	codeInterrupted = 130
)

const (
	whole    = 5 * time.Minute  // the whole show; on a machine that has the time it takes some ten seconds
	patience = 30 * time.Second // one step
	// dwell is how many answers the live generation gives between two steps.
	dwell = 600
)

// Run runs the command with the arguments after "demo". self is the path of this binary.
func Run(ctx context.Context, self string, args []string, out io.Writer) int {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(ctx, args[1])
	case len(args) > 0:
		_, _ = fmt.Fprintln(out, "usage: holdfast demo")
		return codeError
	}
	ctx, cancel := context.WithTimeout(ctx, whole)
	defer cancel()
	d := &demo{show: newShow(out), versions: newVersions()}
	code, err := d.run(ctx, self)
	d.show.clear()
	switch {
	case code == codeInterrupted:
		d.show.say("interrupted")
	case err != nil:
		for why := range strings.SplitSeq(err.Error(), "\n") {
			d.show.say("the demo has failed: %s", why)
		}
	}
	return code
}

// demo is one show.
type demo struct {
	show     *show
	versions *versions
	config   *configMap
	child    *child
	watch    *watch
	load     *load.Load
	// expected is how many handoffs had to complete (at least and at most), and how many to be rolled back.
	expected struct{ least, most, rolledBack uint64 }
}

// run makes everything, plays the steps and takes everything down again.
func (d *demo) run(ctx context.Context, self string) (code int, err error) {
	dir, err := os.MkdirTemp("", "holdfast-demo-")
	if err != nil {
		return codeError, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if d.config, err = newConfigMap(filepath.Join(dir, "config"), "v1", behaviourOK); err != nil {
		return codeError, err
	}
	addr, probes, err := twoAddresses()
	if err != nil {
		return codeError, err
	}
	argv := []string{
		"--listen", addr, "--watch", d.config.dir, "--watch-debounce", "200ms", "--ready", "http:/healthz", "--ready-timeout", "3s",
		"--settle", "200ms", "--drain-timeout", "30s", "--probe-addr", probes, "--log-format", "json",
		"--", self, "demo", "serve", d.config.dir,
	}
	d.show.command(argv)
	if d.child, err = startChild(self, argv); err != nil {
		return codeError, err
	}
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	d.watch = startWatch(watching, probes, d.child, d.show)
	defer func() {
		// Nothing is left to do when it has ended in order.
		d.child.kill()
		d.child.killOrphans(d.watch.last(), d.config.dir)
	}()
	d.load = load.New(load.Options{
		Address: addr, NewWorkers: 4, KeepAliveWorkers: 4, Think: 4 * time.Millisecond, Timeout: patience,
		Duration: whole, Generation: d.versions.generation,
	})

	err = d.play(ctx)
	if d.load.Snapshot().Started.IsZero() {
		return d.fail(ctx, err)
	}
	result := d.load.Stop()
	stopWatching()
	last := d.watch.wait()
	exit, endErr := d.child.stop(patience)
	if endErr == nil && exit != 0 {
		endErr = fmt.Errorf("holdfast ended: %w", d.child.err)
	}
	wrong := d.load.Verify(d.watch.cutovers())
	d.show.table(result, last, d.versions, d.expected.least, d.expected.most, d.expected.rolledBack)
	for _, w := range wrong {
		d.show.say("answered by the wrong generation: %s", w)
	}
	err = errors.Join(err, endErr, d.judge(result, last, wrong))
	if err != nil {
		return d.fail(ctx, err)
	}
	return 0, nil
}

// fail says which exit code err means.
func (d *demo) fail(ctx context.Context, err error) (int, error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return codeInterrupted, err
	}
	for _, line := range d.child.lastLines() {
		d.show.say("holdfast: %s", line)
	}
	return codeLost, err
}

// judge compares the whole with what had to come.
func (d *demo) judge(r load.Result, last *status.Snapshot, wrong []string) error {
	var all error
	if r.Lost() > 0 {
		for _, f := range r.Failures {
			d.show.say("lost: %s %s in phase %s: %s", f.Kind, f.Outcome, f.Phase, f.Error)
		}
		all = errors.Join(all, fmt.Errorf("%d requests were lost", r.Lost()))
	}
	if len(wrong) > 0 {
		all = errors.Join(all, errors.New("connections reached the wrong generation"))
	}
	completed, failed := handoffs(last)
	if completed < d.expected.least || completed > d.expected.most || failed != d.expected.rolledBack {
		all = errors.Join(all, fmt.Errorf("%d handoffs completed and %d were rolled back", completed, failed))
	}
	return all
}
