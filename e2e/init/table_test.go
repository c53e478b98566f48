package inits

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// testCase is one thing that an init does, or should.
type testCase struct {
	section string
	name    string
	want    string   // what holdfast does, and what would be right
	why     string   // why that differs from what one of the others does
	long    bool     // left out with -short
	hangs   []string // those that will not do what is waited for; "as NAME" is holdfast by that name
	alone   bool     // nothing else may run beside it
	run     func(t *testing.T, x tool) string
}

// row is a case with what came of it, by tool.
type row struct {
	testCase
	mu  sync.Mutex
	got map[string]string
}

// TestInits is the table.
func TestInits(t *testing.T) {
	if err := harness.CanPID1(); err != nil {
		missing(t, err)
	}
	rows := compare(t, tools(t), cases())
	names := compareNames(t, rows)
	lines := compareLines(t, tools(t)[1:])
	write(t, "HOLDFAST_INIT_DOC", func(b *strings.Builder) {
		document(b, rows, versions(t))
		documentNames(b, rows, names)
		documentLines(b, lines)
	})
}

// compareNames runs every short case once more against holdfast under each of the others' names. It must do what that one
// does, or, where the table says why, what holdfast does.
func compareNames(t *testing.T, rows []*row) []*row {
	t.Helper()
	names := make([]*row, len(rows))
	aliases := aliases(t)
	t.Run("names", func(t *testing.T) {
		for i, of := range rows {
			names[i] = &row{testCase: of.testCase, got: map[string]string{}}
			if of.alone || of.long || of.got["tini"] == "" || of.section == atRestSection {
				continue
			}
			for _, x := range aliases {
				t.Run(of.section+"/"+of.name+"/"+x.name, func(t *testing.T) {
					t.Parallel()
					x.hangs = slices.Contains(of.hangs, "as "+x.name)
					got := attempt(t, of.run, x)
					names[i].mu.Lock()
					names[i].got[x.name] = got
					names[i].mu.Unlock()
					if got != of.got[x.name] && (got != of.want || of.why == "") {
						t.Errorf("called %s: %q; %s itself: %q", x.name, got, x.name, of.got[x.name])
					}
				})
			}
		}
	})
	return names
}

// documentNames lists where holdfast differs from the one by whose name it is called.
func documentNames(b *strings.Builder, rows, names []*row) {
	b.WriteString("\n## Called by their names\n\nA symbolic link named tini, docker-init, dumb-init or catatonit makes holdfast read that tool's command line and\n" +
		"variables and behave so: no handoffs, no takeover, no probes. The same cases were run so; here are those in which it still differs.\n\n" +
		"| case | name | the tool | holdfast by that name | why |\n|---|---|---|---|---|\n")
	ran, same := 0, 0
	for i, n := range names {
		for _, name := range []string{"tini", "dumb-init", "catatonit"} {
			got, of := n.got[name], rows[i].got[name]
			if got == "" {
				continue
			}
			if ran++; got == of {
				same++
				continue
			}
			fmt.Fprintf(b, "| %s: %s | %s | %s | %s | %s |\n", n.section, n.name, name, of, got, n.why)
		}
	}
	fmt.Fprintf(b, "\n%d runs, %d the same.\n", ran, same)
}

// compare runs every case against every tool, and judges.
func compare(t *testing.T, tools []tool, cases []testCase) []*row {
	t.Helper()
	var rows []*row
	for _, alone := range []bool{false, true} {
		t.Run(fmt.Sprintf("alone=%v", alone), func(t *testing.T) {
			for _, c := range cases {
				if c.alone != alone || c.long && testing.Short() {
					continue
				}
				r := &row{testCase: c, got: map[string]string{}}
				rows = append(rows, r)
				for _, x := range tools {
					t.Run(c.section+"/"+c.name+"/"+x.name, func(t *testing.T) {
						if !alone {
							t.Parallel()
						}
						r.take(t, x)
					})
				}
			}
		})
	}
	for _, r := range rows {
		for _, x := range tools[1:] {
			if got, ran := r.got[x.name]; ran && got != r.want && r.why == "" {
				t.Errorf("%s, %s: holdfast: %q; %s: %q; and nothing says why", r.section, r.name, r.want, x.name, got)
			}
		}
	}
	order(rows, cases)
	return rows
}

// order puts the rows into the order of the cases.
func order(rows []*row, cases []testCase) {
	at := map[string]int{}
	for i, c := range cases {
		at[c.section+c.name] = i
	}
	for i := range rows {
		for j := i; j > 0 && at[rows[j].section+rows[j].name] < at[rows[j-1].section+rows[j-1].name]; j-- {
			rows[j], rows[j-1] = rows[j-1], rows[j]
		}
	}
}

func (r *row) take(t *testing.T, x tool) {
	x.hangs = slices.Contains(r.hangs, x.name)
	got := attempt(t, r.run, x)
	r.mu.Lock()
	r.got[x.name] = got
	r.mu.Unlock()
	if x.own && got != r.want {
		t.Errorf("%q, want %q", got, r.want)
	}
}

// attempt runs a case to its outcome, which may come early.
func attempt(t *testing.T, run func(*testing.T, tool) string, x tool) (got string) {
	defer func() {
		switch early := recover().(type) {
		case nil:
		case outcome:
			got = string(early)
		default:
			panic(early)
		}
	}()
	return run(t, x)
}

// write makes the document that the variable names.
func write(t *testing.T, variable string, make func(*strings.Builder)) {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" || testing.Short() || t.Failed() {
		return
	}
	var b strings.Builder
	make(&b)
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func versions(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Package} ${Version}, ", "tini", "dumb-init", "catatonit").Output()
	kernel, err2 := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	release, _, _ := strings.Cut(string(kernel), "-")
	return string(out) + "Linux " + strings.TrimSpace(release)
}

const preface = `# holdfast as an init

Generated by ` + "`make init`" + ` (e2e/init): each case was run against holdfast and against Debian's packages of the three inits that
it replaces, each a real PID 1 of a PID namespace of its own. "=" says that the outcome was the same as holdfast's. Where it
was not, the reason stands in the last column. The suite fails if holdfast does anything else than the first column says, and if
a difference has no reason.

Versions: %s.

What the table cannot say:

- Every signal that a process can be sent reaches the child, real-time signals one by one, but for SIGKILL and SIGSTOP, which
  nobody can catch, SIGCHLD, SIGTTIN and SIGTTOU, and the reload signal. What holdfast raises itself is told from what a
  user sends by siginfo_t: a SIGPIPE by a write to a log reader that has left, a fault, the Go runtime's SIGURG. The SIGHUP of
  a terminal that has gone is no reload.
- In the first instant, before an init can catch anything, the kernel drops what is sent to a PID 1; that is so for all four.
  holdfast blocks every signal with its program's first instructions, and passes on what has come since. (That is so as
  make build builds it. Any other build has half a millisecond more in which a SIGTERM, SIGINT, SIGQUIT or SIGHUP ends it
  with code 2.)
- For a standard descriptor that is closed the child finds /dev/null; where there is none, one that cannot be read or written.
- Signals that are sent one after another are passed on in that order, unless several wait at the same time: then the
  kernel gives every init the one with the lowest number first. What comes right after a SIGTSTP to a shell's job may
  overtake that. A real-time signal's value (sigqueue) is not passed on.
- A shell's job stops with its main process, whoever has stopped that: after a kill -STOP of it from elsewhere it takes fg.
- Descriptors that the init was given are passed on under their numbers (unless a held port takes the number), as by the
  others; none of its own are. They go to every generation, and not to --check and --ready exec commands.
- holdfast is larger than the others. It wants room for 8 processes and threads (ulimit -u), 18 descriptors (-n; some more for
  each held port) and, since Go reserves addresses that it does not use, 1.3 GB of address space (-v; most of it is never
  memory). Go's own variables are also read by it: GODEBUG=schedtrace=… writes into its log, and a GOMEMLIMIT that is no size
  ends it, as it would the Go program below.
- Without privileges the takeover needs no_new_privs, so that a set-user-ID program below holdfast gains nothing (in a
  restricted pod it would not either); --takeover off, and the other tools' names, do without.
- holdfast listens for probes on :9902. A second one in the same network namespace wants another --probe-addr, or none.
- What is left over when the main process ends is killed by the kernel where the init is PID 1. Where it is not, it is left
  alone. With a --grace-period it gets the stop signal first, in either case, and SIGKILL in the end; holdfast exits as
  soon as all are gone.
- A server that forks its successor and exits ends the container with any of the three; with holdfast it goes on if --follow
  is given.
- Zombies whose parent is alive and does not wait for them are no init's to reap. holdfast names that parent: in its log, at
  the next child of its own that it reaps (at most once a minute), and in holdfast status, also as JSON. Where holdfast is
  not PID 1, that is said only of its own descendants.

`

func document(b *strings.Builder, rows []*row, versions string) {
	fmt.Fprintf(b, preface, versions)
	others := []string{"tini", "dumb-init", "catatonit"}
	section, same := "", map[string]int{}
	for _, r := range rows {
		if r.section != section {
			section = r.section
			fmt.Fprintf(b, "\n## %s\n\n| case | holdfast | tini | dumb-init | catatonit | why holdfast differs |\n|---|---|---|---|---|---|\n", section)
		}
		cells := []string{r.name, r.got["holdfast"]}
		why := ""
		for _, name := range others {
			if r.got[name] == r.got["holdfast"] {
				cells = append(cells, "=")
				same[name]++
				continue
			}
			cells, why = append(cells, "**"+r.got[name]+"**"), r.why
		}
		fmt.Fprintf(b, "| %s | %s |\n", strings.Join(cells, " | "), why)
	}
	fmt.Fprintf(b, "\n%d cases. The same as holdfast: ", len(rows))
	for i, name := range others {
		fmt.Fprintf(b, "%s%s in %d", map[bool]string{true: ", "}[i > 0], name, same[name])
	}
	b.WriteString(".\n")
}
