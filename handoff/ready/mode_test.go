package ready_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/handoff/ready"
)

func TestParseMode(t *testing.T) {
	for text, want := range map[string]ready.Mode{
		"accept":                   {Kind: ready.Accept},
		"notify":                   {Kind: ready.Notify},
		"http:/":                   {Kind: ready.HTTP, Path: "/"},
		"http:/healthz?full=1":     {Kind: ready.HTTP, Path: "/healthz?full=1"},
		"http:8080/a/b:c":          {Kind: ready.HTTP, Port: 8080, Path: "/a/b:c"},
		"tcp:1":                    {Kind: ready.TCP, Port: 1},
		"tcp:65535":                {Kind: ready.TCP, Port: 65535},
		"fd:3":                     {Kind: ready.FD, FD: 3},
		"fd:1023":                  {Kind: ready.FD, FD: 1023},
		"exec:true":                {Kind: ready.Exec, Command: []string{"true"}},
		`exec:sh -c 'a "b" c' $X:`: {Kind: ready.Exec, Command: []string{"sh", "-c", `a "b" c`, "$X:"}},
		"delay:0s":                 {Kind: ready.Delay},
		"delay:1m30s":              {Kind: ready.Delay, Delay: 90 * time.Second},
	} {
		got, err := ready.ParseMode(text)
		if err != nil || got.Kind != want.Kind || got.Port != want.Port || got.Path != want.Path || got.FD != want.FD ||
			!slices.Equal(got.Command, want.Command) || got.Delay != want.Delay {
			t.Errorf("ParseMode(%q) = %+v, %v, want %+v", text, got, err, want)
		}
		if got.String() != text {
			t.Errorf("ParseMode(%q).String() = %q", text, got)
		}
	}
	for text, wrong := range map[string]string{
		"":                 `"" is not a way to be ready: want accept, http:[PORT]/PATH`,
		"Accept":           `"Accept" is not a way to be ready`,
		"https:/x":         "is not a way to be ready",
		"/healthz":         "is not a way to be ready",
		"accept:8080":      "accept takes no argument",
		"notify:":          "notify takes no argument",
		"http":             `"http" has no path: want http:[PORT]/PATH, such as http:/healthz`,
		"http:8080":        "has no path",
		"http:x/":          `"x" is not a port from 1 to 65535`,
		"http:0/":          `"0" is not a port`,
		"http:localhost/":  `"localhost" is not a port`,
		"http://host/path": "names a host",
		"tcp":              `"" is not a port`,
		"tcp:65536":        `"65536" is not a port`,
		"tcp:-1":           `"-1" is not a port`,
		"tcp:+1":           `"+1" is not a port`,
		"fd:":              `"" is not a descriptor from 3 to 1023`,
		"fd:2":             `"2" is not a descriptor`,
		"fd:1024":          `"1024" is not a descriptor`,
		"fd:x":             `"x" is not a descriptor`,
		"exec":             `"" is no command`,
		"exec:  ":          "is no command",
		"exec:'":           "does not split into words",
		"delay":            `"" is not a duration: want one such as 500ms or 10s`,
		"delay:10":         `"10" is not a duration`,
		"delay:-1s":        `"-1s" is not a duration`,
	} {
		if got, err := ready.ParseMode(text); err == nil || !strings.Contains(err.Error(), wrong) || strings.Contains(err.Error(), "\n") {
			t.Errorf("ParseMode(%q) = %+v, %v, want an error with %q", text, got, err, wrong)
		}
	}
}

// TestAgain: what has happened once cannot be asked again.
func TestAgain(t *testing.T) {
	for text, want := range map[string]bool{
		"accept": true, "http:/": true, "tcp:1": true, "exec:true": true, "notify": false, "fd:3": false, "delay:1s": false,
	} {
		if m, err := ready.ParseMode(text); err != nil || m.Again() != want {
			t.Errorf("%s: Again() = %v, %v", text, m.Again(), err)
		}
	}
}

func TestParseCommand(t *testing.T) {
	for text, want := range map[string][]string{
		"nginx -t":           {"nginx", "-t"},
		"  a   b ":           {"a", "b"},
		`a "b c" 'd e' f\ g`: {"a", "b c", "d e", "f g"},
		`sh -c 'exit 1'`:     {"sh", "-c", "exit 1"},
		`a ""`:               {"a", ""},
	} {
		if got, err := ready.ParseCommand(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("ParseCommand(%q) = %q, %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", " ", "'a", `"a`, `a\`} {
		if got, err := ready.ParseCommand(text); err == nil {
			t.Errorf("ParseCommand(%q) = %q, want an error", text, got)
		}
	}
}
