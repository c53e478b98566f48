package reaper

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Command is what Start executes.
type Command struct {
	// Argv is the command line. Its first word is searched for along the PATH of Env unless it has a slash, as by execvp(3).
	Argv []string
	Env  []string
	// PIDVariable is the name of one more variable, whose value is the program's own pid; "" = none.
	PIDVariable string
	// Files are the child's descriptors: its descriptor i is a duplicate of Files[i]; -1 leaves i closed. The caller
	// keeps and closes its own. The child has nothing else open when the program begins.
	Files []int
	// Report is the end to write to of a pipe, close-on-exec, on which the child tells why it could not become the program:
	// see Outcome. It closes without a word when the program begins. -1 = none.
	Report int
	// Terminal is this process' descriptor of the terminal whose foreground the child's process group gets; -1 = none.
	Terminal int
	// Session asks for a session of its own in place of a process group. A Terminal is the child's descriptor 0 then, and
	// becomes the session's controlling one, if it is a terminal and nobody's.
	Session bool
	// Filter, if not nil, is put on the program.
	Filter *Filter
}

// A Filter is a seccomp(2) filter whose listener goes to whoever has the other end of Control.
type Filter struct {
	Program  []unix.SockFilter
	Attempts []uintptr // SECCOMP_FILTER_FLAG_*, the best first: one that the kernel does not know (EINVAL) leads to the next
	Control  int       // a socket of SOCK_SEQPACKET, close-on-exec, for one FilterReport; the caller closes its own
	Required bool      // without the filter the program must not run
}

// lastSignal is the last signal's number (signal(7)).
const lastSignal = 64

// plan is a Command as the child needs it: all memory that it reads or writes. It is on the heap, and stays there, since the
// child goes by numbers that stand for addresses.
type plan struct {
	argv, env []*byte // end with nil
	paths     []*byte // to be tried one after the other
	shell     *byte   // /bin/sh, and its command line, in which the second word is a path
	script    []*byte
	pid       []byte // in env, for the digits; empty = none

	files            []int
	report, terminal int
	session, control bool
	filter           *filterPlan
	forked           bool // the child is another process; else see Become

	limited  bool
	limit    unix.Rlimit // of descriptors, to be given back
	uid, gid uint32      // this process' effective ones

	// zero is SIG_DFL as the kernel's struct sigaction, in either of its layouts, and the empty signal mask.
	zero    [4]uint64
	scratch struct {
		group     int32
		limit     unix.Rlimit
		stat      unix.Statx_t
		failure   failure
		attribute [64]byte
	}
}

type filterPlan struct {
	program       unix.SockFprog
	attempts      []uintptr
	control       int
	required      bool
	capability    *byte // the name of the attribute
	message       FilterReport
	vector        unix.Iovec
	with, without unix.Msghdr // the message, with the listener and without
	listener      *int32      // in the control message of with
}

// plan prepares a start. The name is searched for by the child: whoever looks at a file may have to wait for it.
func (c *Command) plan(limit *unix.Rlimit) (*plan, error) {
	if len(c.Argv) == 0 {
		return nil, fmt.Errorf("start a program: no command: %w", unix.EINVAL)
	}
	p := &plan{
		report: c.Report, terminal: c.Terminal, session: c.Session, control: c.Session && c.Terminal >= 0,
		uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()),
	}
	if limit != nil {
		p.limited, p.limit = true, *limit
	}
	p.files = append(p.files, c.Files...)
	for len(p.files) < 3 { // close-on-exec they may not be
		p.files = append(p.files, -1)
	}
	env := c.Env
	if c.PIDVariable != "" {
		env = append(env[:len(env):len(env)], c.PIDVariable+"="+strings.Repeat("0", digits))
	}
	paths := c.candidates()
	var all texts
	p.argv, p.env, p.paths = all.list(c.Argv), all.list(env), all.list(paths)[:len(paths)]
	p.script = all.list(append([]string{"sh", ""}, c.Argv[1:]...))
	p.shell = all.text("/bin/sh")
	if c.PIDVariable != "" {
		p.pid = unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(p.env[len(env)-1]), len(c.PIDVariable)+1)), digits+1)
	}
	if f := c.Filter; f != nil {
		p.filter = f.plan()
		p.filter.capability = all.text("security.capability")
	}
	if all.bad {
		return nil, fmt.Errorf("start %s: a NUL byte in a word or variable: %w", c.Argv[0], unix.EINVAL)
	}
	return p, nil
}

// digits is how many a pid may have.
const digits = len("2147483647")

func (f *Filter) plan() *filterPlan {
	p := &filterPlan{attempts: f.Attempts, control: f.Control, required: f.Required}
	if len(f.Program) > 0 && len(f.Program) <= math.MaxUint16 {
		p.program = unix.SockFprog{Len: uint16(len(f.Program)), Filter: &f.Program[0]}
	}
	rights := unix.UnixRights(-1)
	p.listener = (*int32)(unsafe.Pointer(&rights[unix.CmsgLen(0)]))
	p.vector.Base = (*byte)(unsafe.Pointer(&p.message))
	p.vector.SetLen(FilterReportSize)
	p.without.Iov, p.without.Iovlen = &p.vector, 1
	p.with = p.without
	p.with.Control = &rights[0]
	p.with.SetControllen(len(rights))
	return p
}

// texts makes C's strings of Go's.
type texts struct{ bad bool }

func (t *texts) text(s string) *byte {
	b, err := unix.BytePtrFromString(s)
	t.bad = t.bad || err != nil
	return b
}

// list ends with nil.
func (t *texts) list(words []string) []*byte {
	list := make([]*byte, len(words)+1)
	for i, s := range words {
		list[i] = t.text(s)
	}
	return list
}

// candidates lists the paths to try, in order.
func (c *Command) candidates() []string {
	name := c.Argv[0]
	if strings.Contains(name, "/") || name == "" {
		return []string{name}
	}
	var paths []string
	for _, dir := range strings.Split(c.search(), ":") {
		if dir == "" {
			dir = "."
		}
		paths = append(paths, dir+"/"+name)
	}
	return paths
}

// search returns PATH, or where it is not set what glibc takes instead (execvp(3)).
func (c *Command) search() string {
	for _, kv := range c.Env {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			return path
		}
	}
	return "/bin:/usr/bin"
}

// Start makes a child for c, in a process group of its own, and returns its pid. It does not wait until the program runs:
// the file system that it is on may hang. Outcome says what has come of it.
func (r *Reaper) Start(c Command) (int, error) {
	p, err := c.plan(r.limit)
	if err != nil {
		return 0, err
	}
	p.forked = true
	pid, errno := p.begin()
	if errno != 0 {
		return 0, fmt.Errorf("start %s: %w", c.Argv[0], errno)
	}
	if !c.Session {
		// The child does the same; whoever is first. From here on a signal to the group reaches it. EACCES: the program runs.
		_ = unix.Setpgid(pid, pid)
	}
	return pid, nil
}

// Become becomes the program of c, in the place of this process: what Start's child does. It returns only if c cannot be
// prepared; else a failure ends this process, with a report as Start's child's.
func Become(c Command) error {
	p, err := c.plan(nil)
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the filter and the signal mask are the thread's, and execve(2) keeps those of its caller
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil); err != nil {
		return fmt.Errorf("block signals: %w", err)
	}
	p.begin()
	return nil
}
