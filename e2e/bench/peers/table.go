package peers

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/e2e/bench/subject"
)

// Settle is holdfast's --settle in all measurements: shorter than its default of a second, which is for networks with
// longer ways than the loopback.
const Settle = 100 * time.Millisecond

// GoServer is the Server of the rows with the same Go server.
const GoServer = "Go"

func code() []subject.Fault {
	return []subject.Fault{subject.Exit, subject.Crash, subject.Never, subject.Wedge, subject.Slow}
}

// All lists the peers.
func All() []Peer {
	return append(holders(), ownReloads()...)
}

func hup(r *Running) error { return r.signal(syscall.SIGHUP) }

func holdfast(p *Place, flags []string, command ...string) []string {
	argv := []string{p.Holdfast, "-q", "--probe-addr", "127.0.0.1:0", "--settle", Settle.String()}
	return append(append(append(argv, flags...), "--"), command...)
}

func server(p *Place) ([]string, error) { return []string{p.Server, p.Addr()}, nil }

// holders hold a port for any server, which is the same Go server in all of them.
func holders() []Peer {
	return []Peer{
		{
			Name: "holdfast", Server: GoServer, Holdfast: true, Faults: code(), reload: hup,
			argv: func(p *Place) ([]string, error) { return holdfast(p, nil, p.Server, p.Addr()), nil },
		},
		{
			Name: "(a second server, no handoff)", Server: GoServer, Floor: true, argv: server,
			reload: func(r *Running) error { return r.beside() },
		},
		{
			Name: "kill and start", Server: GoServer, Faults: code(), argv: server,
			reload: func(r *Running) error {
				r.process.terminate()
				return r.launch()
			},
		},
		{
			Name: "socket activation and a restart", Server: GoServer, Faults: code(), argv: func(p *Place) ([]string, error) {
				if p.socket == nil {
					l, err := net.Listen("tcp", p.Addr())
					if err != nil {
						return nil, err
					}
					defer l.Close() // of which the file is a duplicate
					if p.socket, err = l.(*net.TCPListener).File(); err != nil {
						return nil, err
					}
				}
				return server(p)
			},
			reload: func(r *Running) error {
				r.process.terminate()
				return r.launch()
			},
		},
		{
			Name: "Server::Starter", Server: GoServer, Faults: code(), reload: hup,
			Version: []string{"dpkg-query", "-W", "-f", "Server::Starter ${Version}", "libserver-starter-perl"},
			argv: func(p *Place) ([]string, error) {
				return []string{"/usr/bin/start_server", "--port=" + p.Addr(), "--", p.Server}, nil
			},
		},
		{
			Name: "go-server-starter", Server: GoServer, Faults: code(), reload: hup,
			argv: func(p *Place) ([]string, error) {
				return []string{p.GoStarter, "--port=" + p.Addr(), "--", p.Server}, nil
			},
		},
		{
			Name: "tableflip", Server: GoServer, Faults: code(),
			argv: func(p *Place) ([]string, error) { return []string{p.Tableflip, p.Addr(), p.pidFile()}, nil },
			reload: func(r *Running) error {
				pid, err := readPID(r.pidFile())
				if err != nil {
					return err
				}
				return unix.Kill(pid, unix.SIGHUP)
			},
		},
		{
			Name: "supervisord", Server: GoServer, Faults: code(), Version: []string{"/usr/bin/supervisord", "--version"},
			argv: func(p *Place) ([]string, error) {
				conf := filepath.Join(p.Dir, "supervisord.conf")
				text := fmt.Sprintf("[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=%s/supervisord.pid\nchildlogdir=%[1]s\nuser=root\n"+
					"[unix_http_server]\nfile=%[1]s/socket\n[supervisorctl]\nserverurl=unix://%[1]s/socket\n"+
					"[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"+
					"[program:server]\ncommand=%s %s\nautorestart=true\nstdout_logfile=NONE\nredirect_stderr=true\n", p.Dir, p.Server, p.Addr())
				return []string{"/usr/bin/supervisord", "-c", conf, "-s"}, os.WriteFile(conf, []byte(text), 0o644)
			},
			reload: func(r *Running) error {
				// Its answer to a server that does not start is an exit code, and what becomes of that is what is measured.
				_ = r.tool("/usr/bin/supervisorctl", "-c", filepath.Join(r.Dir, "supervisord.conf"), "restart", "server")
				return nil
			},
		},
	}
}

func (p *Place) pidFile() string { return filepath.Join(p.Dir, "pid") }

func readPID(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// tool runs a peer's own command to its end.
func (r *Running) tool(argv ...string) error {
	p, err := r.run(argv, nil)
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(within):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("%q: %v", argv, p.cmd.ProcessState)
	}
	return nil
}

// beside starts a second server on a port of its own, lets it live as long as a handoff would, and stops it.
func (r *Running) beside() error {
	port, err := freePort()
	if err != nil {
		return err
	}
	other := Running{Peer: r.Peer, Place: Place{Tools: r.Tools, Port: port, Dir: r.Dir}, output: r.output}
	if err := other.launch(); err != nil {
		return err
	}
	err = other.answers(within)
	time.Sleep(Settle)
	other.process.terminate()
	return err
}

// ownReloads are the servers that reload themselves, each beside the same server under holdfast.
func ownReloads() []Peer {
	broken := []subject.Fault{subject.Exit}
	nginx := func(p *Place) ([]string, error) {
		conf, err := p.write("nginx.conf")
		// A pid file for each start: two generations at once would overwrite each other's.
		return []string{"/bin/sh", "-c", fmt.Sprintf(`exec /usr/sbin/nginx -e stderr -c %s -g "pid %s/nginx-$$.pid;"`, conf, p.Dir)}, err
	}
	haproxy := func(flags ...string) func(p *Place) ([]string, error) {
		return func(p *Place) ([]string, error) {
			conf, err := p.write("haproxy.cfg")
			return append(append([]string{"/usr/sbin/haproxy", "-f", conf}, flags...), "-q"), err
		}
	}
	gunicorn := func(p *Place) ([]string, error) {
		return []string{"/usr/bin/gunicorn", "--chdir", p.Files, "-w", "2", "--threads", "4", "--log-level", "critical", "-b", p.Addr(), "app:app"}, nil
	}
	puma := func(p *Place) ([]string, error) {
		config, err := p.write("config.ru")
		// A thread for each connection of the load. Where kept connections have taken all, Puma 5.6 waits for one that is free
		// before it accepts, and meanwhile does not look for its own stop command (Server#handle_servers): it goes on until the
		// clients leave, whoever stops it.
		return []string{"/usr/bin/puma", "--quiet", "-w", "2", "-t", "100:100", "--bind", "tcp://" + p.Addr(), config}, err
	}
	node := func(p *Place) ([]string, error) { return []string{"node", filepath.Join(p.Files, "app.js")}, nil }
	pm2 := func(r *Running, argv ...string) error { return r.tool(append([]string{"pm2", "--silent"}, argv...)...) }

	under := func(name string, command func(*Place) ([]string, error)) Peer {
		return Peer{Name: "holdfast", Server: name, Holdfast: true, reload: hup, argv: func(p *Place) ([]string, error) {
			argv, err := command(p)
			return holdfast(p, nil, argv...), err
		}}
	}
	with := func(p Peer, faults []subject.Fault, conf ...string) Peer {
		p.Faults = faults
		if len(conf) > 0 {
			p.conf = conf[0]
		}
		return p
	}
	return []Peer{
		with(under("nginx", nginx), broken, "nginx.conf"),
		{Name: "nginx -s reload (HUP)", Server: "nginx", Version: []string{"/usr/sbin/nginx", "-v"}, argv: nginx, reload: hup, Faults: broken, conf: "nginx.conf"},
		with(under("HAProxy", haproxy()), broken, "haproxy.cfg"),
		{
			Name: "HAProxy's reload (-W, USR2)", Server: "HAProxy", Version: []string{"/usr/sbin/haproxy", "-v"}, argv: haproxy("-W"), Faults: broken, conf: "haproxy.cfg",
			reload: func(r *Running) error { return r.signal(syscall.SIGUSR2) },
		},
		with(under("gunicorn", gunicorn), code()),
		{Name: "gunicorn's reload (HUP)", Server: "gunicorn", Version: []string{"/usr/bin/gunicorn", "--version"}, argv: gunicorn, reload: hup, Faults: code()},
		with(under("Puma", puma), code()),
		{
			Name: "Puma's phased restart (USR1)", Server: "Puma", Version: []string{"/usr/bin/puma", "--version"}, argv: puma, Faults: code(),
			reload: func(r *Running) error { return r.signal(syscall.SIGUSR1) },
		},
		with(under("Node", node), code()),
		{
			Name: "pm2 reload", Server: "Node", Version: pm2Version(), Faults: code(),
			argv: func(p *Place) ([]string, error) {
				return []string{"pm2", "--silent", "start", filepath.Join(p.Files, "app.js"), "-i", "1", "--name", "app"}, nil
			},
			reload: func(r *Running) error { return pm2(r, "reload", "app") },
			stop:   func(r *Running) { _ = pm2(r, "kill") },
		},
	}
}

// Careful are rows for the bad paths alone: holdfast with the flags that are for them.
func Careful() []Peer {
	var all []Peer
	for _, flags := range [][]string{{"--restart", "on-failure"}, {"--soak", "30s", "--ready", "http:/"}} {
		all = append(all, Peer{
			Name: "holdfast " + strings.Join(flags, " "), Server: GoServer, Holdfast: true, Faults: code(), reload: hup,
			argv: func(p *Place) ([]string, error) { return holdfast(p, flags, p.Server, p.Addr()), nil },
		})
	}
	return all
}

// pm2Version asks npm, since pm2 itself would start its daemon to answer.
func pm2Version() []string {
	return []string{"node", "-p", "'pm2 ' + require(require('child_process').execSync('npm root -g').toString().trim() + '/pm2/package.json').version"}
}
