// Package servers knows the real servers that the end-to-end tests put behind holdfast, each with a small application
// from this directory, and how each of them is started.
//
// Every one answers "/", "/healthz" and, but for nginx, "/slow?ms=M"; all but /healthz carry the generation of
// HOLDFAST_GENERATION in the header X-Generation and in the body. Every one serves kept connections until its stop
// signal, then finishes what it accepted, as well as it can.
package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Server is one real server.
type Server struct {
	Name string
	// Program is what must be there; e2e/deps.sh installs it.
	Program string
	// Activated is the command line that takes its one socket from LISTEN_FDS; nil when it can't.
	Activated func(Place) []string
	// Binding is the command line that binds Place.Addr itself, as holdfast's takeover expects.
	Binding func(Place) []string
	// Stop is the signal that ends it gracefully.
	Stop string
}

// Place is where a server is started.
type Place struct {
	Host, Port string // what to bind
	// Scratch is a directory that the server's user may write to, for the servers that need a configuration file.
	Scratch string
	// GoActivation is the built e2e/servers/goactivation; needed for the Go servers alone.
	GoActivation string
}

// Missing says what is not installed and how to get it; "" when s can be started.
func (s Server) Missing() string {
	if s.Program == "" {
		return ""
	}
	if _, err := exec.LookPath(s.Program); err != nil {
		return s.Program + " is missing: run e2e/deps.sh"
	}
	return ""
}

// All returns the servers; dir is this directory (e2e/servers). Programs of Debian are named by their path because
// another python may come first in PATH, for which nothing is installed.
func All(dir string) []Server {
	in := func(name string) string { return filepath.Join(dir, name) }
	return []Server{
		{
			Name: "gunicorn", Program: "/usr/bin/gunicorn", Stop: "TERM",
			Activated: func(Place) []string { return gunicorn(in("gunicorn")) },
			Binding:   func(p Place) []string { return gunicorn(in("gunicorn"), "--bind", p.Host+":"+p.Port) },
		},
		{
			// The default workers close every connection, so only these can show a lost kept one.
			Name: "gunicorn-threads", Program: "/usr/bin/gunicorn", Stop: "TERM",
			Activated: func(Place) []string { return gunicorn(in("gunicorn"), "--threads", "4") },
			Binding: func(p Place) []string {
				return gunicorn(in("gunicorn"), "--threads", "4", "--bind", p.Host+":"+p.Port)
			},
		},
		{
			Name: "uvicorn", Program: "/usr/bin/uvicorn", Stop: "TERM",
			Activated: func(Place) []string { return append(uvicorn(in("uvicorn")), "--fd", "3") },
			Binding: func(p Place) []string {
				return append(uvicorn(in("uvicorn")), "--host", p.Host, "--port", p.Port)
			},
		},
		{
			Name: "node", Program: "node", Stop: "TERM",
			Activated: func(Place) []string { return []string{"node", filepath.Join(in("node"), "server.js")} },
			Binding: func(p Place) []string {
				return []string{"env", "PORT=" + p.Port, "node", filepath.Join(in("node"), "server.js")}
			},
		},
		{
			Name: "go", Stop: "TERM",
			Activated: func(p Place) []string { return []string{p.GoActivation} },
		},
		{
			Name: "go-named", Stop: "TERM",
			Activated: func(p Place) []string { return []string{p.GoActivation, "-named"} },
		},
		{
			Name: "nginx", Program: "/usr/sbin/nginx", Stop: "QUIT",
			Binding: func(p Place) []string {
				return []string{"/bin/sh", filepath.Join(in("nginx"), "start.sh"), p.Scratch, p.Port}
			},
		},
	}
}

func gunicorn(dir string, more ...string) []string {
	return append([]string{"/usr/bin/gunicorn", "--chdir", dir, "-w", "2", "--log-level", "warning", "app:app"}, more...)
}

func uvicorn(dir string) []string {
	return []string{"/usr/bin/uvicorn", "--app-dir", dir, "--log-level", "warning", "--no-access-log", "app:app"}
}

// BuildGoActivation builds e2e/servers/goactivation, a module of its own, to the file out.
func BuildGoActivation(dir, out string) error {
	cmd := exec.Command("go", "build", "-o", out, ".")
	cmd.Dir = filepath.Join(dir, "goactivation")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build goactivation: %w: %s", err, strings.TrimSpace(string(output)))
	}
	return nil
}
