package inits

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"holdfast/e2e/bench/proc"
	"holdfast/e2e/bench/witness"
)

// A Subject is an init, or a supervisor that is used as one.
type Subject struct {
	Name    string
	Binary  string
	Version []string // the command that prints it

	// Argv is the command line that has the init run command. dir is an empty directory, for those that want files.
	Argv func(dir string, command []string) ([]string, error)

	Forwards bool // it passes signals on to its child
	Ends     bool // it ends when its child does
	Slow     bool // it takes milliseconds to reap one orphan
}

// All lists the subjects: holdfast first, then holdfast under tini's name, then the others.
func All(holdfast string) []Subject {
	plain := func(argv ...string) func(string, []string) ([]string, error) {
		return func(_ string, command []string) ([]string, error) {
			return append(argv[:len(argv):len(argv)], command...), nil
		}
	}
	return []Subject{
		{
			Name: "holdfast", Binary: holdfast, Version: []string{holdfast, "--version"}, Forwards: true, Ends: true,
			// Port 0: as with its default flags it has a probe server, and several can run side by side.
			Argv: plain(holdfast, "-q", "--probe-addr", "127.0.0.1:0", "--"),
		},
		{Name: "holdfast as tini", Binary: holdfast, Forwards: true, Ends: true, Argv: func(dir string, command []string) ([]string, error) {
			link := filepath.Join(dir, "tini")
			return append([]string{link, "--"}, command...), os.Symlink(holdfast, link)
		}},
		{Name: "tini", Binary: "/usr/bin/tini", Version: []string{"/usr/bin/tini", "--version"}, Forwards: true, Ends: true, Argv: plain("/usr/bin/tini", "--")},
		{Name: "dumb-init", Binary: "/usr/bin/dumb-init", Version: []string{"/usr/bin/dumb-init", "--version"}, Forwards: true, Ends: true, Argv: plain("/usr/bin/dumb-init", "--")},
		{Name: "catatonit", Binary: "/usr/bin/catatonit", Version: []string{"/usr/bin/catatonit", "--version"}, Forwards: true, Ends: true, Argv: plain("/usr/bin/catatonit", "--")},
		{Name: "s6-svscan", Binary: "/usr/bin/s6-svscan", Version: []string{"dpkg-query", "-W", "-f", "s6 ${Version}", "s6"}, Argv: s6},
		{Name: "supervisord", Binary: "/usr/bin/supervisord", Version: []string{"/usr/bin/supervisord", "--version"}, Argv: supervisord, Slow: true},
	}
}

// s6 makes a scan directory with one service.
func s6(dir string, command []string) ([]string, error) {
	service := filepath.Join(dir, "scan", "service")
	if err := os.MkdirAll(service, 0o755); err != nil {
		return nil, err
	}
	run := filepath.Join(service, "run")
	if len(command) == 2 && command[1] == "child" { // without a shell between
		return []string{"/usr/bin/s6-svscan", filepath.Dir(service)}, os.Symlink(command[0], run)
	}
	script := "#!/bin/sh\nexec " + strings.Join(command, " ") + "\n"
	return []string{"/usr/bin/s6-svscan", filepath.Dir(service)}, os.WriteFile(run, []byte(script), 0o755)
}

func supervisord(dir string, command []string) ([]string, error) {
	path := filepath.Join(dir, "supervisord.conf")
	text := fmt.Sprintf("[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=%s/pid\nuser=root\n"+
		"[program:witness]\ncommand=%s\nstdout_logfile=/dev/fd/1\nstdout_logfile_maxbytes=0\n", dir, strings.Join(command, " "))
	return []string{"/usr/bin/supervisord", "-c", path, "-s"}, os.WriteFile(path, []byte(text), 0o644)
}

// running is a subject with a child, as PID 1 of a PID namespace of its own.
type running struct {
	Subject
	cmd  *exec.Cmd
	log  *witness.Log
	dir  string
	ends func() // once its output has ended
}

// within bounds every wait.
const within = time.Minute

// start starts the subject with a role of the witness below it. The process that is started here becomes the init: it only
// mounts /proc before.
func (s Subject) start(witnessBin string, role ...string) (*running, error) {
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return nil, err
	}
	r := &running{Subject: s, log: &witness.Log{}, dir: dir}
	argv, err := s.Argv(dir, append([]string{witnessBin}, role...))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	r.cmd = exec.Command(witnessBin, append([]string{"become"}, argv...)...)
	r.cmd.Stdout = write
	r.cmd.SysProcAttr = namespace()
	err = r.cmd.Start()
	write.Close()
	if err != nil {
		read.Close()
		return nil, errors.Join(fmt.Errorf("start %s: %w", s.Name, err), os.RemoveAll(dir))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(r.log, read)
		read.Close()
	}()
	r.ends = func() { <-done }
	return r, nil
}

func namespace() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return a
}

func (r *running) pid() int { return r.cmd.Process.Pid }

// own lists the processes that belong to the init: all but the witness.
func (r *running) own() (pids []int) {
	for _, pid := range proc.Below(r.pid()) {
		if name := proc.Field(pid, "Name"); name != "witness" && name != "run" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// child is the witness's pid.
func (r *running) child() (int, error) {
	for _, pid := range proc.Below(r.pid()) {
		if name := proc.Field(pid, "Name"); name == "witness" || name == "run" {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%s has no child", r.Name)
}

// kill ends the init, and with it, as it is the PID 1 of its namespace, everything below it.
func (r *running) kill() {
	_ = r.cmd.Process.Kill()
	_, _ = r.cmd.Process.Wait()
	r.ends()
	_ = os.RemoveAll(r.dir)
}
