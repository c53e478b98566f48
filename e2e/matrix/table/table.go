// Package table lists the servers of the matrix: each unmodified, with its stock way of being told its port, how it is
// installed, what is asked of it, and what is known of its limits.
package table

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/shlex"

	"holdfast/e2e/load"
)

// files are the servers' configurations and applications. %PORT and %DIR in them are replaced.
//
//go:embed files
var files embed.FS

// Row is one server in one configuration.
//
// In all its words %PORT is the port that it is to bind, %DIR a directory of its own, %BUILD the one in which it was built
// and %APPS the directory e2e/servers.
type Row struct {
	Name string
	// Needs are what e2e/deps.sh has to install, by the names that it knows.
	Needs []string
	// Version is whose version is told: a package of Debian, "go", "npm NAME" or "module PATH".
	Version string
	// Command is what a user would type behind "holdfast --".
	Command string
	// Flags are holdfast's own, beside those that every row has.
	Flags string
	// Files are copied from files/ to %DIR, under the same path.
	Files []string
	// Build are shell commands that make what the row needs in %BUILD, where the files are copied to as well; once.
	Build []string
	// Setup are shell commands that are run before each start from nothing: making keys, or an empty database.
	Setup []string
	// Usual are more of them, before the restarts without holdfast.
	Usual []string
	// Stop is what ends it in the usual way; holdfast finds that out by itself, unless Flags say otherwise.
	Stop string

	// Network and Addresses are where the load goes: "tcp" to 127.0.0.1:%PORT by default.
	Network   string
	Addresses []string
	// Protocol is what the load speaks; HTTP by default, asking for Path ("/").
	Protocol load.Protocol
	Path     string
	// Rate is how many requests a second are made, by New workers with new connections and Kept ones with kept ones;
	// 200, 3 and 3 by default. Kept -1 is none.
	Rate      float64
	New, Kept int
	// Tells is whether the answers carry the generation, so that every new connection's can be verified.
	Tells bool

	// Sequential is whether the generations can not overlap: the port is held, clients wait.
	Sequential bool
	// Abrupt is whether the server, told to stop, breaks off what is under way: on kept connections; with the sequential
	// strategy, where it is stopped while clients come, also what it has just accepted. Caveat says so.
	Abrupt bool
	// Excused is in the answers of a server that says itself that it cannot answer yet. They count as failed, but the row
	// is not broken by them.
	Excused string
	// Caveat is what a user must know.
	Caveat string
}

// Place is where a row is tried.
type Place struct {
	Port  string // free for the server
	Dir   string // empty, for the server's files
	Build string // what Make has made
	Root  string // the module's directory
}

// Fill puts the place into text.
func (p Place) Fill(text string) string {
	return strings.NewReplacer("%PORT", p.Port, "%DIR", p.Dir, "%BUILD", p.Build, "%APPS", filepath.Join(p.Root, "e2e", "servers")).Replace(text)
}

// Argv is the command line as the server gets it.
func (r Row) Argv(p Place) ([]string, error) { return shlex.Split(p.Fill(r.Command)) }

// HoldfastFlags are the flags of the row.
func (r Row) HoldfastFlags(p Place) ([]string, error) { return shlex.Split(p.Fill(r.Flags)) }

// Make builds the row in p.Build.
func (r Row) Make(p Place) error {
	if len(r.Build) == 0 {
		return nil
	}
	p.Dir = p.Build
	if err := r.copyFiles(p); err != nil {
		return err
	}
	return r.shell(p, r.Build)
}

// Prepare copies the row's files to p.Dir and runs its setup.
func (r Row) Prepare(p Place) error {
	if err := r.copyFiles(p); err != nil {
		return err
	}
	return r.shell(p, r.Setup)
}

// PrepareUsual is Prepare for the restarts.
func (r Row) PrepareUsual(p Place) error {
	if err := r.Prepare(p); err != nil {
		return err
	}
	return r.shell(p, r.Usual)
}

func (r Row) copyFiles(p Place) error {
	for _, name := range r.Files {
		text, err := fs.ReadFile(files, "files/"+name)
		if err != nil {
			return fmt.Errorf("prepare %s: %w", r.Name, err)
		}
		to := filepath.Join(p.Dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return fmt.Errorf("prepare %s: %w", r.Name, err)
		}
		if err := os.WriteFile(to, []byte(p.Fill(string(text))), 0o644); err != nil {
			return fmt.Errorf("prepare %s: %w", r.Name, err)
		}
	}
	return nil
}

func (r Row) shell(p Place, lines []string) error {
	for _, line := range lines {
		cmd := exec.Command("/bin/sh", "-ec", p.Fill(line))
		cmd.Dir = p.Root
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("prepare %s: %s: %w: %s", r.Name, line, err, out)
		}
	}
	return nil
}

// Loads are the loads to put on the row, one for each address, with observe told of each request.
func (r Row) Loads(p Place, observe func(load.Request)) []*load.Load {
	o := load.Options{Network: r.Network, Protocol: r.Protocol, Path: r.Path, Rate: r.Rate, NewWorkers: r.New, KeepAliveWorkers: r.Kept, Observe: observe}
	if d, ok := r.Protocol.(interface{ at(Place) load.Protocol }); ok {
		o.Protocol = d.at(p)
	}
	if !r.Tells {
		o.Generation = func(load.Answer) (int, error) { return 0, nil }
	}
	addresses := r.Addresses
	if len(addresses) == 0 {
		addresses = []string{"127.0.0.1:%PORT"}
	}
	o.Rate /= float64(len(addresses))
	if r.Network == "udp" {
		o.Timeout = 2 * time.Second // an answer that has been lost does not come later
	}
	var all []*load.Load
	for _, a := range addresses {
		o.Address = p.Fill(a)
		all = append(all, load.New(o))
	}
	return all
}

// withDefaults fills in what a row has not said.
func (r Row) withDefaults() Row {
	if r.Stop == "" {
		r.Stop = "TERM"
	}
	if r.Rate == 0 {
		r.Rate = 200
	}
	if r.New == 0 {
		r.New = 3
	}
	switch r.Kept {
	case 0:
		r.Kept = 3
	case -1:
		r.Kept = 0
	}
	if r.Sequential {
		r.Flags = strings.TrimSpace("--strategy sequential " + r.Flags)
	}
	return r
}

// script is a FastCGI load whose script lies in the row's directory.
type script struct{ load.FastCGI }

func (s script) at(p Place) load.Protocol {
	s.Script = p.Fill(s.Script)
	return s.FastCGI
}

// Describe says in a few words what is asked of the row.
func Describe(r Row) string {
	switch p := r.Protocol.(type) {
	case load.DNS:
		return "one query over UDP a request, from a port of its own or always from the same"
	case script:
		return "FastCGI, with and without FCGI_KEEP_CONN"
	case load.Plain:
		switch {
		case p.Each == (load.Step{}):
			return fmt.Sprintf("connect and read %q", p.Hello.Want)
		case p.Each.Line:
			return fmt.Sprintf("%q, which is answered with %q", strings.TrimSpace(p.Each.Send), p.Each.Want)
		}
		return fmt.Sprintf("the bytes %x, which are answered with %x", p.Each.Send, p.Each.Want)
	}
	return "GET " + r.Path
}
