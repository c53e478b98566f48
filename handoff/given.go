package handoff

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/handoff/activation"
	"holdfast/handoff/port"
	"holdfast/handoff/ready"
)

// What a new generation is given besides its sockets: its variables, and where it says that it is ready.

// readIn is how long the loop waits for the watched content to be read. A mounted ConfigMap takes less than a millisecond;
// with a file system that does not answer, the hash is that of what was read last.
const readIn = 250 * time.Millisecond

// readConfig returns the hash of the watched content as it is now, and notes it as what the handoff in flight tries. It
// comes before whatever reads that content in earnest: if it changes in between, the watcher finds a difference and there
// is one handoff too many, where the other way round there would be one too few.
func (l *Loop) readConfig() string {
	if l.o.Watch == nil {
		return ""
	}
	hash := l.o.Watch.ReadWithin(readIn)
	if h := l.records.current; h != nil {
		h.ConfigHash = hash
	}
	return hash
}

// environment is what every new generation starts from, read anew.
func (l *Loop) environment() ([]string, error) {
	env := l.o.Environ
	if l.o.EnvFile != "" {
		more, err := activation.EnvFile(l.o.EnvFile)
		if err != nil {
			return nil, err
		}
		env = activation.Merge(env, more)
	}
	if l.o.EnvDir != "" {
		more, err := activation.EnvDir(l.o.EnvDir)
		if err != nil {
			return nil, err
		}
		env = activation.Merge(env, more)
	}
	return env, nil
}

// variables are what a generation finds, made of env; pidVariable is one more, whose value is its pid.
func (l *Loop) variables(g *generation, env []string, specs []port.Spec) (all []string, pidVariable string) {
	if l.o.Bare {
		return activation.Bare(env, l.reaper.PID())
	}
	all = activation.Environ(env, specs, g.number, l.o.Activation)
	if len(specs) == 0 {
		all = append(all, l.o.Passed...)
	}
	return all, activation.PIDVariable(all)
}

const notifySocket = "NOTIFY_SOCKET="

// openNotify makes the generation's notify socket, if readiness or --follow asks for one. Else the one that this process has
// been given itself, by podman say, is the child's.
func (l *Loop) openNotify(g *generation, given []string) (err error) {
	if !l.o.Follow && !slices.ContainsFunc(l.o.Ready, func(m ready.Mode) bool { return m.Kind == ready.Notify }) {
		if i := slices.IndexFunc(given, func(kv string) bool { return strings.HasPrefix(kv, notifySocket) }); i >= 0 && !l.o.Bare {
			g.env = append(g.env, given[i])
		}
		return nil
	}
	g.notify, err = ready.ListenNotify(func(n ready.Notification) { l.post(func() { l.notified(g, n) }) })
	if err == nil {
		g.env = append(g.env, notifySocket+g.notify.Name)
	}
	return err
}

// openWritten adds the pipe on which the generation writes its newline, if readiness asks for one. close closes
// holdfast's copy of the end that the child gets.
func (l *Loop) openWritten(g *generation, files []int) (with []int, close func(), err error) {
	i := slices.IndexFunc(l.o.Ready, func(m ready.Mode) bool { return m.Kind == ready.FD })
	if i < 0 {
		return files, func() {}, nil
	}
	fd := l.o.Ready[i].FD
	if fd < len(files) {
		return nil, nil, fmt.Errorf("fd:%d is taken: the held ports have the descriptors up to %d", fd, len(files)-1)
	}
	read, write, err := pipe()
	if err != nil {
		return nil, nil, err
	}
	for len(files) < fd {
		files = append(files, -1)
	}
	g.writtenEnd = read
	go awaitNewline(read, g.written)
	return append(files, write), func() { unix.Close(write) }, nil
}

// awaitNewline closes done at the first newline; whatever else is written means nothing.
func awaitNewline(f *os.File, done chan struct{}) {
	b := make([]byte, 64)
	for {
		n, err := f.Read(b)
		if strings.Contains(string(b[:n]), "\n") {
			close(done)
			return
		}
		if err != nil {
			return
		}
	}
}
