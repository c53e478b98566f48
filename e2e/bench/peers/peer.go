// Package peers knows what people use today to restart a server without an outage, and starts each of them with its own
// ways: the ones that hold a port for any server, with the same Go server behind each, and the servers that reload
// themselves, each of those beside holdfast with the same server.
package peers

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/e2e/bench/proc"
	"holdfast/e2e/bench/subject"
)

// Tools are the programs that have been built.
type Tools struct {
	Holdfast, Server, Tableflip, GoStarter string
	Files                                  string // this package's directory of applications and configurations
	Work                                   int    // of the subject, for each answer
}

// A Peer is one way to restart one server.
type Peer struct {
	Name   string
	Server string // what is behind it: those of one Server are compared
	// Holdfast marks holdfast's own rows.
	Holdfast bool
	// Floor marks the row that hands nothing over: a second server is only started and stopped beside the first.
	Floor bool
	// Faults are those that its Server can have; what else there is, is not its program's to do wrong.
	Faults []subject.Fault
	// Version is the command that prints what it is.
	Version []string

	conf string // the configuration that an Exit is made with, of a server that has no program of ours; "" = none
	argv func(p *Place) ([]string, error)
	// reload asks for a new generation. It may return before that is there.
	reload func(r *Running) error
	// stop ends what the process group does not hold; nil = nothing.
	stop func(r *Running)
}

// Place is where a peer runs.
type Place struct {
	Tools
	Port, Dir string
	socket    *os.File // of the peers whose port the bench itself holds
}

// Addr is what it binds.
func (p *Place) Addr() string { return "127.0.0.1:" + p.Port }

func (p *Place) faultFile() string { return filepath.Join(p.Dir, "fault") }

// write writes one of the files with {DIR} and {PORT} filled in, and returns its path.
func (p *Place) write(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(p.Files, name))
	if err != nil {
		return "", err
	}
	filled := strings.NewReplacer("{DIR}", p.Dir, "{PORT}", p.Port).Replace(string(text))
	path := filepath.Join(p.Dir, name)
	return path, os.WriteFile(path, []byte(filled), 0o644)
}

// Running is a peer that serves.
type Running struct {
	Peer
	Place
	process *process // what was started last
	output  *os.File
}

// within bounds every wait.
const within = 30 * time.Second

// Start starts the peer and waits until its server answers.
func (p Peer) Start(tools Tools) (*Running, error) {
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	r := &Running{Peer: p, Place: Place{Tools: tools, Port: port, Dir: dir}}
	if r.output, err = os.Create(filepath.Join(dir, "output")); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := r.launch(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", p.Name, err), r.Stop())
	}
	if err := r.answers(within); err != nil {
		text, _ := os.ReadFile(r.output.Name())
		return nil, errors.Join(fmt.Errorf("%s: %w: %s", p.Name, err, tail(text)), r.Stop())
	}
	return r, nil
}

func tail(text []byte) []byte { return text[max(0, len(text)-500):] }

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}

// launch starts the peer's command line in a process group of its own.
func (r *Running) launch() error {
	argv, err := r.argv(&r.Place)
	if err != nil {
		return err
	}
	r.process, err = r.run(argv, r.socket)
	return err
}

func (r *Running) run(argv []string, socket *os.File) (*process, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = r.Dir
	cmd.Env = append(os.Environ(), "SUBJECT_WORK="+strconv.Itoa(r.Work), "SUBJECT_FAULT="+r.faultFile(), "GOMAXPROCS=1",
		"PORT="+r.Port, "HOME="+r.Dir, "PM2_HOME="+r.Dir, "PYTHONDONTWRITEBYTECODE=1")
	if socket != nil {
		cmd.ExtraFiles = []*os.File{socket}
		cmd.Env = append(cmd.Env, "LISTEN_FDS=1")
	}
	cmd.Stdout, cmd.Stderr = r.output, r.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// terminate stops a server as an operator would, and waits.
func (p *process) terminate() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// answers waits until the server answers.
func (r *Running) answers(within time.Duration) error {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var err error
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var response *http.Response
		if response, err = client.Get("http://" + r.Addr() + "/"); err == nil {
			response.Body.Close()
			return nil
		}
	}
	return fmt.Errorf("the server does not answer within %v: %w", within, err)
}

// Reload asks for a new generation.
func (r *Running) Reload() error { return r.reload(r) }

// Set has the generations that start from now on have a fault.
func (r *Running) Set(f subject.Fault) error {
	if r.conf != "" {
		path, err := r.write(r.conf)
		if err != nil || f != subject.Exit {
			return err
		}
		return os.WriteFile(path, []byte("what no server understands\n"), 0o644)
	}
	return os.WriteFile(r.faultFile(), []byte(f), 0o644)
}

// Stop ends everything.
func (r *Running) Stop() error {
	if r.stop != nil {
		r.stop(r)
	}
	if r.process != nil {
		group := r.process.cmd.Process.Pid
		proc.Kill(group)
		_ = unix.Kill(-group, unix.SIGKILL)
		<-r.process.done
	}
	if r.socket != nil {
		_ = r.socket.Close()
	}
	_ = r.output.Close()
	return os.RemoveAll(r.Dir)
}

// PID is that of what was started: of holdfast, or of the server.
func (r *Running) PID() int { return r.process.cmd.Process.Pid }

// Answers waits until the server answers.
func (r *Running) Answers() error { return r.answers(within) }

func (r *Running) signal(s syscall.Signal) error { return r.process.cmd.Process.Signal(s) }
