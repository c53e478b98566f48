package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"holdfast/handoff"
	"holdfast/handoff/machine"
)

// flagSamples are two values of each flag, other than the default and than each other.
func flagSamples(t *testing.T) map[string][2]string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "env")
	for _, path := range []string{file, file + "2"} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return map[string][2]string{
		"listen":                 {":8080", "web=127.0.0.1:81"},
		"activation":             {"nginx", "php-fpm"},
		"takeover":               {"off", "require"},
		"takeover-at":            {"socket", "bind"},
		"takeover-exclude":       {"8080", "81"},
		"ports-may-change":       {"true", "false"},
		"reload-signal":          {"USR1", "SIGUSR2"},
		"watch":                  {"/etc/a", "/etc/b,c"},
		"watch-trigger":          {"/etc/podinfo/reload", "/b"},
		"watch-action":           {"signal:HUP", "exec:curl -X POST localhost/-/reload"},
		"watch-debounce":         {"2s", "3s"},
		"watch-jitter":           {"2s", "3s"},
		"check":                  {"nginx -t", "sh -c 'exit 0'"},
		"ready":                  {"http:8080/healthz", "notify"},
		"ready-timeout":          {"2m", "3s"},
		"strategy":               {"sequential", "overlap"},
		"memory-headroom":        {"refuse", "off"},
		"soak":                   {"2s", "3s"},
		"settle":                 {"2s", "0s"},
		"stop-signal":            {"QUIT", "INT"},
		"drain-timeout":          {"2s", "3s"},
		"drain-wait-connections": {"true", "false"},
		"max-draining":           {"1", "2"},
		"restart":                {"always", "on-failure"},
		"shutdown-delay":         {"2s", "3s"},
		"termination-log":        {"/tmp/a", ""},
		"grace-period":           {"2s", "3s"},
		"env-file":               {file, file + "2"},
		"env-dir":                {dir, filepath.Dir(dir)},
		"probe-addr":             {"127.0.0.1:1", ""},
		"group":                  {"true", "false"},
		"subreaper":              {"true", "false"},
		"follow":                 {"true", "false"},
		"job-control":            {"true", "false"},
		"pdeathsig":              {"KILL", "SIGTERM"},
		"single-child":           {"true", "false"},
		"warn-reap":              {"true", "false"},
		"rewrite":                {"USR1:USR2", "TERM:0"},
		"remap-exit":             {"143", "1:2"},
		"log-format":             {"json", "text"},
		"log-level":              {"debug", "warn"},
		"verbose":                {"true", "false"},
		"quiet":                  {"true", "false"},
	}
}

// parsed returns what the words say, to be compared.
func parsed(t *testing.T, args, environ []string) flags {
	t.Helper()
	f, err := parseFlags(args, environ)
	if err != nil {
		t.Fatal(err)
	}
	values := *f
	values.set = nil
	return values
}

// TestTwins: every flag has a variable, which says the same; the flag wins; a repeatable one has a line for each value.
// TestNginxDoesNotBlock: nginx's workers hang on a blocking socket, so that it gets another unless that is asked for.
func TestNginxDoesNotBlock(t *testing.T) {
	args := []string{"--listen", ":80", "--listen", ":81?nonblock=0", "--listen", ":82?nonblock=1", "--listen", "unix:///nonblock=0"}
	for name, c := range map[string]struct {
		more []string
		want []bool
	}{
		"nginx":   {[]string{"--activation", "php-fpm", "--activation", "nginx"}, []bool{true, false, true, true}},
		"php-fpm": {[]string{"--activation", "php-fpm"}, []bool{false, false, true, false}},
		"none":    {nil, []bool{false, false, true, false}},
	} {
		f, err := parseFlags(slices.Concat(args, c.more, []string{"x"}), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range c.want {
			if got := f.listen[i].Nonblock; got != want {
				t.Errorf("%s: %s does not block: %t, want %t", name, f.listen[i], got, want)
			}
		}
	}
}

func TestTwins(t *testing.T) {
	samples := flagSamples(t)
	all, err := parseFlags([]string{"true"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	all.set.VisitAll(func(flag *pflag.Flag) {
		name := flag.Name
		values, ok := samples[name]
		delete(samples, name)
		switch {
		case name == "version": // see TestVersionVariable
		case !ok:
			t.Errorf("this test does not know --%s", name)
		default:
			t.Run(name, func(t *testing.T) { testTwin(t, name, values) })
		}
	})
	for name := range samples {
		t.Errorf("there is no flag --%s", name)
	}
}

func testTwin(t *testing.T, name string, values [2]string) {
	environ := func(value string) []string {
		env := []string{"PATH=/bin", "HOLDFAST_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "=" + value}
		if name == "activation" {
			env = append(env, "HOLDFAST_LISTEN=:1") // it goes with that
		}
		if name == "watch-action" {
			env = append(env, "HOLDFAST_WATCH=/etc/a")
		}
		return env
	}
	args := func(values ...string) (list []string) {
		for _, v := range values {
			list = append(list, "--"+name+"="+v)
		}
		if name == "activation" {
			list = append(list, "--listen=:1")
		}
		if name == "watch-action" {
			list = append(list, "--watch=/etc/a")
		}
		return append(list, "true")
	}
	none := []string{"true"}
	byFlag := parsed(t, args(values[0]), nil)
	if byVariable := parsed(t, none, environ(values[0])); !reflect.DeepEqual(byFlag, byVariable) {
		t.Errorf("the flag says\n%+v\nand the variable\n%+v", byFlag, byVariable)
	}
	if byDefault := parsed(t, none, nil); reflect.DeepEqual(byFlag, byDefault) && name != "subreaper" && name != "single-child" {
		t.Errorf("%q says no more than the default", values[0])
	}
	if both := parsed(t, args(values[0]), environ(values[1])); !reflect.DeepEqual(both, byFlag) {
		t.Errorf("the flag does not win:\n%+v\nwant\n%+v", both, byFlag)
	}
	f, _ := parseFlags(none, nil)
	if !repeatable(f.set.Lookup(name)) {
		return
	}
	twice := parsed(t, args(values[0], values[1]), nil)
	byLine := parsed(t, none, environ("\n"+values[0]+"\n"+values[1]+"\n"))
	if !reflect.DeepEqual(twice, byLine) || reflect.DeepEqual(twice, byFlag) {
		t.Errorf("two flags say\n%+v\nand two lines\n%+v", twice, byLine)
	}
}

// TestDefaults: what the documentation promises.
func TestDefaults(t *testing.T) {
	f := parsed(t, []string{"--", "server", "--flag"}, nil)
	for name, c := range map[string]struct{ got, want any }{
		"the command":              {f.command, []string{"server", "--flag"}},
		"--listen":                 {len(f.listen), 0},
		"--activation":             {len(f.activation), 0},
		"--takeover":               {f.takeover, handoff.TakeoverAuto},
		"--takeover-exclude":       {len(f.takeoverExclude), 0},
		"--ports-may-change":       {f.portsMayChange, false},
		"--reload-signal":          {f.reloadSignal, syscall.SIGHUP},
		"--watch":                  {len(f.watch), 0},
		"--watch-debounce":         {f.watchDebounce, time.Second},
		"--watch-jitter":           {f.watchJitter, time.Duration(0)},
		"--check":                  {len(f.check), 0},
		"--ready":                  {len(f.ready) == 1 && f.ready[0].Kind == "accept", true},
		"--ready-timeout":          {f.readyTimeout, 60 * time.Second},
		"--strategy":               {f.sequential, false},
		"--stop-signal":            {f.stopSignal, syscall.Signal(0)},
		"--soak":                   {f.soak, time.Duration(0)},
		"--max-draining":           {f.maxDraining, 8},
		"--settle":                 {f.settle, time.Second},
		"--drain-timeout":          {f.drainTimeout, 30 * time.Second},
		"--drain-wait-connections": {f.waitConnections, false},
		"--restart":                {f.restart, machine.Never},
		"--shutdown-delay":         {f.shutdownDelay, time.Duration(0)},
		"--grace-period":           {f.gracePeriod, time.Duration(0)},
		"--env-file":               {f.envFile, ""},
		"--env-dir":                {f.envDir, ""},
		"--probe-addr":             {f.probeAddr, ":9902"},
		"--group":                  {f.group, false},
		"--rewrite":                {len(f.rewrite), 0},
		"--remap-exit":             {len(f.remapExit), 0},
		"--log-format":             {f.logFormat, "text"},
		"--log-level":              {f.logLevel, slog.LevelInfo},
		"--version":                {f.version, false},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s is %v by default, want %v", name, c.got, c.want)
		}
	}
}

// TestUsage: the help tells each flag and its default.
func TestUsage(t *testing.T) {
	f, err := parseFlags([]string{"--help"}, nil)
	if !errors.Is(err, errHelp) {
		t.Fatalf("got %v", err)
	}
	help := strings.Join(strings.Fields(usage(f)), " ")
	for _, want := range []string{
		"--watch-debounce DURATION quiet time after a change before the handoff (default 1s) --",
		"--watch-jitter DURATION up to so much more, at random, so that a fleet does not move at once (default 0s) --",
		"--ready-timeout DURATION then a new generation has failed (default 1m) The handoff: --strategy",
		"then SIGKILL (default 30s) --", "(default 8)", `(default ":9902")`, "-g, --group", "-s, --subreaper", "-e, --remap-exit", "(default HUP)", "(default auto)", "(default accept)", "(default never)",
	} {
		if !strings.Contains(help, want) {
			t.Errorf("the help lacks %q:\n%s", want, help)
		}
	}
	f.set.VisitAll(func(flag *pflag.Flag) {
		if !strings.Contains(help, "--"+flag.Name+" ") && !strings.Contains(help, "--"+flag.Name+"[") {
			t.Errorf("the help lacks --%s", flag.Name)
		}
	})
}

func TestDurationString(t *testing.T) {
	for value, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", 30 * time.Second: "30s", time.Minute: "1m", 10 * time.Minute: "10m", 90 * time.Second: "1m30s",
		time.Hour: "1h", 10 * time.Hour: "10h", time.Hour + time.Minute: "1h1m", time.Hour + time.Second: "1h0m1s", 1500 * time.Millisecond: "1.5s",
	} {
		d := duration(value)
		if got := d.String(); got != want {
			t.Errorf("%v is %q, want %q", value, got, want)
		}
	}
}

// TestWhereFlagsEnd: at the first word that is not one, or at --.
func TestWhereFlagsEnd(t *testing.T) {
	for _, c := range []struct{ args, command []string }{
		{[]string{"server", "--settle", "5s"}, []string{"server", "--settle", "5s"}},
		{[]string{"--settle=5s", "server", "-g"}, []string{"server", "-g"}},
		{[]string{"--settle", "5s", "--", "--server"}, []string{"--server"}},
		{[]string{"--", "reload"}, []string{"reload"}},
		{[]string{"-g", "-s", "-v", "-e", "143", "--", "server", "--", "x"}, []string{"server", "--", "x"}},
		{[]string{"-gs", "server"}, []string{"server"}},
		{[]string{"-vvv", "server"}, []string{"server"}},
	} {
		if f, err := parseFlags(c.args, nil); err != nil || !slices.Equal(f.command, c.command) {
			t.Errorf("%q: command %q, %v, want %q", c.args, f.command, err, c.command)
		}
	}
}

// TestVersionVariable: an image that says which holdfast it has does not ask for anything.
func TestVersionVariable(t *testing.T) {
	for _, value := range []string{"1.2.3", "true", ""} {
		if f, err := parseFlags([]string{"server"}, []string{"HOLDFAST_VERSION=" + value}); err != nil || f.version {
			t.Errorf("HOLDFAST_VERSION=%s: version %v, %v", value, f.version, err)
		}
	}
	if f, err := parseFlags([]string{"--version"}, nil); err != nil || !f.version {
		t.Errorf("--version: %v, %v", f.version, err)
	}
}

// TestStrangeVariables: others' variables, such as Kubernetes sets for a service of the name holdfast, mean nothing.
func TestStrangeVariables(t *testing.T) {
	got := parsed(t, []string{"server"}, []string{
		"HOLDFAST_PORT=tcp://10.0.0.1:9902", "HOLDFAST_SERVICE_HOST=10.0.0.1", "HOLDFAST_GENERATION=3", "SETTLE=9s", "holdfast_settle=9s", "HOLDFAST_SETTLE", "X",
	})
	if want := parsed(t, []string{"server"}, nil); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

// TestBadFlags: one line that names the flag, the value and what would be right.
func TestBadFlags(t *testing.T) {
	for _, c := range []struct {
		args, environ []string
		want          []string
	}{
		{nil, nil, []string{"no command", "want holdfast [flags] -- command"}},
		{[]string{"--"}, nil, []string{"no command"}},
		{[]string{""}, nil, []string{"the command is empty"}},
		{[]string{"--", "--watch", "/etc/app", "--", "x"}, nil, []string{`the command is "--watch"`, "HOLDFAST_WATCH"}},
		{[]string{"--", "--settle=1s", "x"}, nil, []string{"HOLDFAST_SETTLE"}},
		{[]string{"--sette=1s", "x"}, nil, []string{"--sette", "see holdfast --help"}},
		{[]string{"-x", "y"}, nil, []string{"-x", "see holdfast --help"}},
		{[]string{"--settle", "5", "x"}, nil, []string{`--settle "5"`, "want a duration such as"}},
		{[]string{"--settle=-1s", "x"}, nil, []string{`--settle "-1s"`, "want a duration"}},
		{[]string{"x"}, []string{"HOLDFAST_SETTLE=soon"}, []string{"HOLDFAST_SETTLE", `"soon"`, "want a duration"}},
		{[]string{"x"}, []string{"HOLDFAST_LISTEN=:80\nbad"}, []string{"HOLDFAST_LISTEN", `"bad"`}},
		{[]string{"--listen=:80", "--listen=:80", "x"}, nil, []string{"--listen", ":80 is given twice"}},
		{[]string{"--activation=nginx", "x"}, nil, []string{"--activation without --listen"}},
		{[]string{"--takeover=yes", "x"}, nil, []string{`--takeover "yes"`, "auto, off or require"}},
		{[]string{"--takeover-exclude=0", "x"}, nil, []string{`--takeover-exclude "0"`, "from 1 to 65535"}},
		{[]string{"--reload-signal=TERM", "x"}, nil, []string{"--reload-signal SIGTERM", "another meaning"}},
		{[]string{"--reload-signal=TTOU", "x"}, nil, []string{"--reload-signal SIGTTOU", "is ignored"}},
		{[]string{"--reload-signal=HUPP", "x"}, nil, []string{`"HUPP" is not a signal`}},
		{[]string{"--ready=http", "x"}, nil, []string{`"http" has no path`}},
		{[]string{"--ready=fd:3", "--ready=fd:4", "x"}, nil, []string{"--ready fd:4", "only one"}},
		{[]string{"--listen=:80", "--listen=:81", "--ready=fd:4", "x"}, nil, []string{"--ready fd:4", "up to 4", "fd:5 or more"}},
		{[]string{"--takeover=off", "--ready=http:/x", "x"}, nil, []string{"--ready http:/x", "no held port to ask on"}},
		{[]string{"--takeover=off", "--listen=udp://:53", "--ready=http:/x", "x"}, nil, []string{"no held port to ask on"}},
		{[]string{"--strategy=sequential", "--soak=1s", "x"}, nil, []string{"--soak and --strategy sequential"}},
		{[]string{"--strategy=fast", "x"}, nil, []string{`--strategy "fast"`, "want overlap or sequential"}},
		{[]string{"--max-draining=0", "x"}, nil, []string{"--max-draining 0", "at least 1"}},
		{[]string{"--restart=maybe", "x"}, nil, []string{`--restart "maybe"`, "never, on-failure or always"}},
		{[]string{"--rewrite=TERM", "x"}, nil, []string{`--rewrite "TERM"`, "want FROM:TO"}},
		{[]string{"--rewrite=TERM:x", "x"}, nil, []string{`"x" is not a signal`}},
		{[]string{"--remap-exit=256", "x"}, nil, []string{`"256"`, "0 to 255"}},
		{[]string{"--log-format=xml", "x"}, nil, []string{`--log-format "xml"`, "want text or json"}},
		{[]string{"--log-level=loud", "x"}, nil, []string{"want debug, info, warn or error"}},
		{[]string{"-v", "-q", "x"}, nil, []string{"--verbose and --quiet"}},
		{[]string{"--env-file=/nonexistent", "x"}, nil, []string{"--env-file /nonexistent", "no such file"}},
		{[]string{"--env-dir=/nonexistent", "x"}, nil, []string{"--env-dir /nonexistent", "no such file"}},
	} {
		_, err := parseFlags(c.args, c.environ)
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q %q: %v, want an error of one line", c.args, c.environ, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q %q: %v, want %q in it", c.args, c.environ, err, want)
			}
		}
	}
}
