package reaper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// The codes with which a child ends that could not become the program, as every shell has them; and holdfast's own error.
const (
	CodeError         = 125
	CodeNotExecutable = 126
	CodeNotFound      = 127
)

// failure is what a child writes on Command.Report.
type failure struct {
	Step  step
	Which int32 // of the paths or descriptors
	Errno int32
	Hint  hint
}

// step is where a child failed.
type step int32

const (
	stepGroup step = iota + 1
	stepTerminal
	stepFiles
	stepFilter
	stepSend
	stepExecute
)

// hint is what a child has found out besides.
type hint int32

const (
	hintRaises      hint = 1 // with stepFilter: see FilterError
	hintDirectory   hint = 2
	hintInterpreter hint = 3
)

// A FilterError says why a filter could not be put on a program.
type FilterError struct {
	Errno unix.Errno
	// Raises: the filter needs no_new_privs without CAP_SYS_ADMIN, and that would take from the program what its file has:
	// capabilities, or another user's identity.
	Raises bool
	// Lost: the filter is in place, and its listener could not be sent.
	Lost bool
}

func (e *FilterError) Error() string {
	if e.Lost {
		return fmt.Sprintf("send seccomp listener: %v", e.Errno)
	}
	return fmt.Sprintf("install seccomp filter: %v", e.Errno)
}

func (e *FilterError) Unwrap() error { return e.Errno }

// FilterReport is what a child sends on Filter.Control, once. The listener comes with it (SCM_RIGHTS), unless Errno says
// why there is none.
type FilterReport struct {
	Errno      int32
	Flags      uint32 // which of the attempts it was
	NoNewPrivs uint8  // 1 = no_new_privs had to be set
	Raises     uint8  // 1 = see FilterError
	_          [2]uint8
}

// FilterReportSize is its size as a message, in bytes.
const FilterReportSize = 12

// ParseFilterReport reads one. The error is about the message; what it tells is in Failed.
func ParseFilterReport(message []byte) (r FilterReport, err error) {
	if n, err := binary.Decode(message, binary.NativeEndian, &r); err != nil || n != len(message) {
		return r, fmt.Errorf("a report of %d bytes on a filter, want %d", len(message), FilterReportSize)
	}
	return r, nil
}

// Failed returns why there is no filter, nil if there is one.
func (r FilterReport) Failed() *FilterError {
	if r.Errno == 0 {
		return nil
	}
	return &FilterError{Errno: unix.Errno(r.Errno), Raises: r.Raises != 0}
}

// Outcome says what has come of c's start, from all that was written on Report until its end: nil if the program runs, or if
// the child was killed before; a *FilterError; or another error in one line, in which the errno of execve(2) is.
func (c *Command) Outcome(report []byte) error {
	if len(report) == 0 {
		return nil
	}
	var f failure
	if n, err := binary.Decode(report, binary.NativeEndian, &f); err != nil || n != len(report) {
		return errors.New("the start failed, and the report of it is not whole")
	}
	errno := unix.Errno(f.Errno)
	switch f.Step {
	case stepGroup:
		return fmt.Errorf("start %s: a process group of its own: %w", c.Argv[0], errno)
	case stepTerminal:
		return fmt.Errorf("start %s: give it the terminal: %w", c.Argv[0], errno)
	case stepFiles:
		return fmt.Errorf("start %s: give it descriptor %d: %w", c.Argv[0], f.Which, errno)
	case stepFilter:
		return &FilterError{Errno: errno, Raises: f.Hint == hintRaises}
	case stepSend:
		return &FilterError{Errno: errno, Lost: true}
	}
	return c.notExecuted(f)
}

func (c *Command) notExecuted(f failure) error {
	name, err := c.Argv[0], error(unix.Errno(f.Errno))
	paths := c.candidates()
	switch found := f.Which >= 0 && int(f.Which) < len(paths); {
	case found:
		name = paths[f.Which]
	case !strings.Contains(name, "/"):
		return fmt.Errorf("execute %s: not found in PATH=%s: %w", name, c.search(), err)
	}
	switch f.Hint {
	case hintDirectory:
		err = fmt.Errorf("it is a directory: %w", err)
	case hintInterpreter:
		err = fmt.Errorf("its interpreter (the #! line, or the dynamic loader) is missing: %w", err)
	}
	return &os.PathError{Op: "execute", Path: name, Err: err}
}
