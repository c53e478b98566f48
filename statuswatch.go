package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/handoff/control"
	"holdfast/handoff/status"
	"holdfast/probes"
)

// watchStatus shows the status until it is interrupted: on a terminal in place, with ages that go on; elsewhere one text
// after the other; as JSON one document a line.
func watchStatus(client *control.Client, format string, out, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	documents := make(chan status.Document)
	ended := make(chan error, 1)
	go func() {
		ended <- client.Watch(ctx, func(d status.Document) error {
			select {
			case documents <- d:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	show := shower(format, out)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last status.Document
	for {
		var err error
		select {
		case last = <-documents:
			err = show(last, true)
		case <-tick.C:
			if last.Snapshot != nil {
				err = show(last, false)
			}
		case err = <-ended:
			if ctx.Err() != nil {
				return 0
			}
			if errors.Is(err, control.ErrEnded) {
				fmt.Fprintln(stderr, "holdfast: it has ended")
				return codeNo
			}
		}
		if err != nil {
			return complain(stderr, err)
		}
	}
}

// shower returns what shows a document, which is new, or the same as before at another time.
func shower(format string, out io.Writer) func(d status.Document, isNew bool) error {
	if format == "json" {
		encoder := json.NewEncoder(out)
		return func(d status.Document, isNew bool) error {
			if !isNew {
				return nil
			}
			return encoder.Encode(d)
		}
	}
	terminal, isFile := out.(*os.File)
	if _, err := windowSize(terminal); isFile && err == nil {
		return func(d status.Document, _ bool) error { return redraw(terminal, d) }
	}
	first := true
	return func(d status.Document, isNew bool) error {
		if !isNew {
			return nil
		}
		if !first {
			fmt.Fprintln(out)
		}
		first = false
		return probes.WriteText(out, d, time.Now())
	}
}

func windowSize(f *os.File) (*unix.Winsize, error) {
	if f == nil {
		return nil, os.ErrInvalid
	}
	return unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
}

// redraw puts the text in the place of the one before it, line by line, so that nothing flickers. What does not fit is
// cut off: a line that wraps would push the others down.
func redraw(terminal *os.File, d status.Document) error {
	var text bytes.Buffer
	if err := probes.WriteText(&text, d, time.Now()); err != nil {
		return err
	}
	size, err := windowSize(terminal)
	if err != nil {
		return fmt.Errorf("ask for the terminal's size: %w", err)
	}
	_, err = terminal.WriteString(screen(text.String(), int(size.Row), int(size.Col)))
	return err
}

// screen is what makes a terminal of that size show text from its first line on. A size of 0 is not known.
func screen(text string, rows, columns int) string {
	const home, clearLine, clearBelow = "\x1b[H", "\x1b[K", "\x1b[J"
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if over := len(lines) - (rows - 1); rows > 1 && over > 0 {
		lines = append(lines[:rows-2], fmt.Sprintf("… %d more lines", over+1))
	}
	var b strings.Builder
	b.WriteString(home)
	for _, line := range lines {
		if runes := []rune(line); columns > 0 && len(runes) > columns {
			line = string(runes[:columns])
		}
		b.WriteString(line + clearLine + "\r\n")
	}
	b.WriteString(clearBelow)
	return b.String()
}
