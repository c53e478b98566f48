package inits

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// line is a command line of another tool's, with what differs, and why, where holdfast is called by its name.
type line struct {
	words   string
	environ string
	why     string
}

const (
	whyExecCode = "126 and 127, as every shell and docker have them"
	whyStderr   = "what an init says of itself is not part of the program's output: it all goes to stderr"
)

// lines are what an image, a script or docker itself may say to each of them.
func lines() map[string][]line {
	return map[string][]line{
		"tini": {
			{"", "", ""}, {"--", "", ""}, {"-h", "", ""}, {"-l", "", ""}, {"--version", "", ""}, {"--version true", "", ""}, {"--help", "", ""}, {"-x", "", ""},
			{"-g true", "", ""}, {"-s true", "", ""}, {"-sgw -- true", "", ""}, {"-w true", "", ""}, {"-v true", "", whyStderr}, {"-vvv true", "", whyStderr},
			{"true", "TINI_VERBOSITY=3", whyStderr}, {"-v true", "TINI_VERBOSITY=0", ""}, {"true", "TINI_SUBREAPER=", ""}, {"true", "TINI_KILL_PROCESS_GROUP=1", ""},
			{"-p SIGKILL true", "", ""}, {"-pSIGTERM true", "", ""}, {"-p KILL true", "", ""}, {"-p 9 true", "", ""}, {"-p SIGRTMIN true", "", ""}, {"-p", "", ""},
			{"-e 1 false", "", ""}, {"-e1 false", "", ""}, {"-e 2 false", "", ""}, {"-e 2 -e 1 false", "", ""}, {"-e 256 true", "", ""}, {"-e x true", "", ""}, {"-e 1:3 false", "", ""}, {"-e", "", ""},
			{"sh -- -c false", "", ""}, {"-g sh -- -c false", "", ""}, {"-- sh -- -c false", "", ""}, {"sh -- -c false", "POSIXLY_CORRECT=1", ""}, {"-e +1 false", "", ""},
		},
		"dumb-init": {
			{"", "", ""}, {"--", "", ""}, {"-h", "", ""}, {"--help", "", ""}, {"--he", "", ""}, {"--help=1", "", ""}, {"-V", "", ""}, {"--version", "", ""}, {"--ver", "", ""}, {"--vers", "", ""},
			{"-x", "", ""}, {"--no-such true", "", ""}, {"-c true", "", ""}, {"--single-child true", "", ""}, {"--single true", "", ""}, {"-v true", "", ""}, {"-cv -- true", "", ""}, {"--verbose true", "", ""},
			{"-r 15:3 true", "", ""}, {"-r15:0 true", "", ""}, {"--rewrite=15:3 true", "", ""}, {"--rewrite", "", ""}, {"-r 15 true", "", ""}, {"-r TERM:QUIT true", "", ""}, {"-r 40:1 true", "", ""},
			{"-r 1:32 true", "", ""}, {"-r 9:3 true", "", ""}, {"-r 0:3 true", "", ""}, {"-r 15:3x true", "", ""}, {"-r +15:+3 true", "", ""},
			{"true", "DUMB_INIT_DEBUG=1", ""}, {"true", "DUMB_INIT_DEBUG=2", ""}, {"true", "DUMB_INIT_SETSID=0", ""}, {"-", "", whyExecCode}, {"-- -x", "", whyExecCode}, {"sh -c false", "", ""}, {"sh -- -c false", "", ""},
		},
		"catatonit": {
			{"", "", ""}, {"--", "", ""}, {"-h", "", ""}, {"--help", "", ""}, {"-V", "", ""}, {"--version", "", ""}, {"--vers", "", ""}, {"--version=3", "", ""}, {"-L", "", ""}, {"-x", "", ""},
			{"-g true", "", ""}, {"-g -- false", "", ""}, {"true", "CATATONIT_DEBUG=1", ""}, {"true", "CATATONIT_LOG=1", ""}, {"-- -x", "", whyExecCode},
			{"sh -- -c false", "", ""}, {"-- sh -- -c false", "", ""},
		},
	}
}

// said is the exit code of a command line, and where something was said.
func said(t *testing.T, x tool, l line) string {
	t.Helper()
	argv := append([]string{"-fp", "--mount-proc", "--kill-child", "--", x.bin}, strings.Fields(l.words)...)
	if os.Geteuid() != 0 {
		argv = append([]string{"-Ur"}, argv...)
	}
	cmd := exec.Command("/usr/bin/unshare", argv...)
	cmd.Env = os.Environ()
	if l.environ != "" {
		cmd.Env = append(cmd.Env, l.environ)
	}
	var out, errors strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errors
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	where := "nothing"
	switch {
	case out.Len() > 0 && errors.Len() > 0:
		where = "stdout and stderr"
	case out.Len() > 0:
		where = "stdout"
	case errors.Len() > 0:
		where = "stderr"
	}
	return fmt.Sprintf("exit %d, %s", cmd.ProcessState.ExitCode(), where)
}

// outcomeOf is what came of a line by the tool itself, and by holdfast under its name.
type outcomeOf struct {
	name string
	line
	theirs, ours string
}

// compareLines tries each command line of the others: called by another's name holdfast reads it as that one does, with the
// same exit code, and help, version, licence and complaints in the same place.
func compareLines(t *testing.T, others []tool) []*outcomeOf {
	t.Helper()
	var all []*outcomeOf
	own := aliases(t)
	t.Run("lines", func(t *testing.T) {
		for i, x := range others {
			for _, l := range lines()[x.name] {
				o := &outcomeOf{name: x.name, line: l}
				all = append(all, o)
				t.Run(strings.TrimSpace(x.name+" "+l.environ+" "+l.words), func(t *testing.T) {
					t.Parallel()
					o.theirs, o.ours = said(t, x, l), said(t, own[i], l)
					if (o.theirs != o.ours) != (l.why != "") {
						t.Errorf("%s: %s; called by that name: %s (%s)", x.name, o.theirs, o.ours, l.why)
					}
				})
			}
		}
	})
	return all
}

// documentLines tells in which of them holdfast differs.
func documentLines(b *strings.Builder, all []*outcomeOf) {
	fmt.Fprintf(b, "\n%d command lines of the three, help, versions, bad ones and variables among them, come to the same exit code and are answered\n"+
		"in the same place (stdout or stderr) under that name, but for these:\n\n| command line | the tool | holdfast by that name | why |\n|---|---|---|---|\n", len(all))
	for _, o := range all {
		if o.ours != o.theirs {
			fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", strings.TrimSpace(o.environ+" "+o.name+" "+o.words), o.theirs, o.ours, o.why)
		}
	}
}
