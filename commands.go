package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"holdfast/e2e/demo"
	"holdfast/handoff/control"
	"holdfast/handoff/status"
	"holdfast/probes"
	"holdfast/reaper"
)

// command is one of holdfast's own.
type command struct {
	name    string
	words   string // what stands behind its flags, as it is shown
	count   int    // how many words that is; -1 = any number
	summary string
	// define adds the command's flags to s, and returns what it does with its words.
	define func(s *pflag.FlagSet) action
}

// action does what a command is for and returns the exit code: 0 yes, codeNo, or 125 where that could not be found out.
type action func(words []string, out, stderr io.Writer) (code int)

const codeNo = 1

// commands lists all of them, in the order in which they are documented.
func commands() []command {
	return []command{
		{"reload", "", 0, "ask the holdfast of this container for a handoff", defineReload},
		{"status", "", 0, "what runs, what is held, what happened last", defineStatus},
		{"probe", "ready|live", 1, "for an exec probe: exit code 0 or 1", defineProbe},
		{"copy", "DIR", 1, "put this binary there (for an init container)", defineCopy},
		{"completion", "bash|zsh|fish", 1, "print a completion script for that shell", defineCompletion},
		{"demo", "", -1, "show it: a server, load, and handoffs, one of them to a broken version", defineDemo},
	}
}

// commandOf returns the command that args begin with, if they do.
func commandOf(args []string) (command, bool) {
	for _, c := range commands() {
		if len(args) > 0 && args[0] == c.name {
			return c, true
		}
	}
	return command{}, false
}

// synopsis is the command as it is typed: holdfast probe [flags] ready|live.
func (c command) synopsis() string {
	text := "holdfast " + c.name
	if set, _ := c.flags(); set.HasFlags() {
		text += " [flags]"
	}
	if c.words != "" {
		text += " " + c.words
	}
	return text
}

// flags makes the command's flag set.
func (c command) flags() (*pflag.FlagSet, action) {
	s := pflag.NewFlagSet("holdfast "+c.name, pflag.ContinueOnError)
	s.Usage = func() {}
	s.SortFlags = false
	return s, c.define(s)
}

// run reads the words behind the command's name and does it.
func (c command) run(args []string, out, stderr io.Writer) (code int) {
	s, do := c.flags()
	err := s.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprintf(out, "%s: %s\n\n%s", c.synopsis(), c.summary, s.FlagUsagesWrapped(helpWidth))
		return 0
	case err != nil:
		return complain(stderr, fmt.Errorf("%s: %w", s.Name(), err))
	case c.count >= 0 && s.NArg() != c.count:
		return complain(stderr, fmt.Errorf("%s: %d words, want %d: %s; see holdfast --help", s.Name(), s.NArg(), c.count, c.synopsis()))
	}
	return do(s.Args(), out, stderr)
}

// asking is what all commands that ask a running holdfast have in common.
type asking struct {
	pid     int
	timeout time.Duration
}

func (a *asking) define(s *pflag.FlagSet, timeout time.Duration) {
	s.IntVar(&a.pid, "pid", 0, "`PID` of the holdfast to ask (0: PID 1 if it is one, else the only one)")
	durationVar(s, &a.timeout, "timeout", timeout, "give up after this time; 0: never")
}

func patience(timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.Background(), func() {}
	}
	return context.WithTimeout(context.Background(), timeout)
}

func defineReload(s *pflag.FlagSet) action {
	var a asking
	wait := s.Bool("wait", false, "wait for the outcome: exit code 0 if the handoff completed, 1 with the reason if it failed")
	a.define(s, 0)
	return func(_ []string, out, stderr io.Writer) int {
		ctx, cancel := patience(a.timeout)
		defer cancel()
		client, err := control.Dial(a.pid)
		if err != nil {
			return complain(stderr, err)
		}
		result, err := client.Reload(ctx, *wait)
		switch {
		case err != nil:
			return complain(stderr, err)
		case !*wait:
			fmt.Fprintln(out, "handoff asked for")
		case !result.Completed:
			fmt.Fprintf(stderr, "holdfast: %s; generation %d is live\n", result.Reason, result.Generation)
			return codeNo
		default:
			fmt.Fprintf(out, "handoff completed in %.3fs: generation %d is live\n", result.Seconds, result.Generation)
		}
		return 0
	}
}

func defineStatus(s *pflag.FlagSet) action {
	var a asking
	format := "text"
	s.VarP(choice[string]{&format, []word[string]{as("text", "text"), as("json", "json")}}, "output", "o", "`FORMAT`: text or json")
	watch := s.BoolP("watch", "w", false, "show it anew whenever something has changed, until it is interrupted")
	a.define(s, 5*time.Second)
	return func(_ []string, out, stderr io.Writer) int {
		ctx, cancel := patience(a.timeout)
		defer cancel()
		client, err := control.Dial(a.pid)
		if err != nil {
			return complain(stderr, err)
		}
		if *watch {
			return watchStatus(client, format, out, stderr)
		}
		document, err := client.Status(ctx)
		if err != nil {
			return complain(stderr, err)
		}
		if err := writeStatus(out, format, document, negligent(document.PID)); err != nil {
			return complain(stderr, err)
		}
		return 0
	}
}

// neglectLasts is how old a zombie must be for its parent to be named.
const neglectLasts = 200 * time.Millisecond

// negligent lists the processes that leave zombies behind, as seen from here: the same container.
func negligent(pid int) []reaper.Neglect {
	first, err := reaper.Look(pid)
	if err != nil || len(first) == 0 {
		return nil
	}
	time.Sleep(neglectLasts)
	now, err := reaper.Look(pid)
	if err != nil {
		return nil
	}
	return reaper.Lasting(first, now)
}

func writeStatus(out io.Writer, format string, d status.Document, neglect []reaper.Neglect) error {
	if format == "text" {
		if err := probes.WriteText(out, d, time.Now()); err != nil {
			return err
		}
		for _, n := range neglect {
			fmt.Fprintf(out, "warning: process %d (%s) leaves zombies behind: %d now; it is alive and does not wait for its children, and nobody else can\n",
				n.PID, n.Command, n.Zombies)
		}
		return nil
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(struct {
		status.Document
		Neglect []reaper.Neglect `json:"neglect,omitempty"`
	}{d, neglect})
}

func defineProbe(s *pflag.FlagSet) action {
	var a asking
	exclude := s.StringArray("exclude", nil, "leave this `CHECK` out: live, handoff or shutdown; repeatable")
	a.define(s, 5*time.Second)
	return func(words []string, out, stderr io.Writer) int {
		paths := map[string]string{"ready": "/readyz", "live": "/livez"}
		path, ok := paths[words[0]]
		if !ok {
			return complain(stderr, fmt.Errorf("holdfast probe %q: want ready or live", words[0]))
		}
		path += "?verbose"
		for _, check := range *exclude {
			path += "&exclude=" + url.QueryEscape(check)
		}
		ctx, cancel := patience(a.timeout)
		defer cancel()
		client, err := control.Dial(a.pid)
		if err != nil {
			return complain(stderr, err)
		}
		good, body, err := client.Probe(ctx, path)
		if err != nil {
			return complain(stderr, err)
		}
		fmt.Fprint(out, body)
		if !good {
			return codeNo
		}
		return 0
	}
}

// defineCopy is for the command that puts this binary into a directory: written beside its place and renamed, so that
// whoever executes it there at the same time finds a whole one.
func defineCopy(*pflag.FlagSet) action {
	return func(words []string, _, stderr io.Writer) int {
		if err := copyTo(words[0]); err != nil {
			return complain(stderr, fmt.Errorf("holdfast copy %s: %w", words[0], err))
		}
		return 0
	}
}

func copyTo(dir string) error {
	path, err := ownPath()
	if err != nil {
		return err
	}
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.CreateTemp(dir, ".holdfast-*")
	if err != nil {
		return err
	}
	defer os.Remove(to.Name()) // fails, as it should, after the rename
	_, err = io.Copy(to, from)
	if err == nil {
		err = to.Chmod(0o755)
	}
	if close := to.Close(); err == nil {
		err = close
	}
	if err != nil {
		return err
	}
	return os.Rename(to.Name(), filepath.Join(dir, "holdfast"))
}

// ownPath returns a path under which this binary can be read: by its own link, which holds even if the file has been
// replaced, or, without /proc, by where it was found.
func ownPath() (string, error) {
	const self = "/proc/self/exe"
	if err := unix.Access(self, unix.X_OK); err == nil {
		return self, nil
	}
	path, err := exec.LookPath(os.Args[0])
	if err != nil {
		return "", fmt.Errorf("find holdfast's own binary without /proc: %w (call it by its absolute path)", err)
	}
	return path, nil
}

func defineDemo(*pflag.FlagSet) action {
	return func(words []string, out, stderr io.Writer) int {
		ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
		defer stop()
		self, err := os.Executable()
		if err != nil {
			return complain(stderr, err)
		}
		return demo.Run(ctx, self, words, out)
	}
}
