package ready

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/shlex"
)

// Kind is one of the ways in which a generation can show that it is ready.
type Kind string

// The kinds of readiness.
const (
	Accept Kind = "accept" // it has accepted a connection on every held port
	HTTP   Kind = "http"   // it answers a request with 2xx or 3xx
	TCP    Kind = "tcp"    // it has accepted a connection on one port
	Notify Kind = "notify" // it has sent READY=1 to NOTIFY_SOCKET (sd_notify(3))
	FD     Kind = "fd"     // it has written a newline to a descriptor (s6's notification-fd)
	Exec   Kind = "exec"   // a command exits 0
	Delay  Kind = "delay"  // it is alive after some time
)

// Mode is one value of --ready.
type Mode struct {
	Kind    Kind
	Port    int           // HTTP (0 = the first held port), TCP
	Path    string        // HTTP
	FD      int           // FD: the descriptor in the child
	Command []string      // Exec
	Delay   time.Duration // Delay
	text    string
}

// String returns the mode as it was written.
func (m Mode) String() string { return m.text }

// Again says whether the mode can be asked again later, or speaks of one instant only.
func (m Mode) Again() bool {
	return m.Kind == Accept || m.Kind == HTTP || m.Kind == TCP || m.Kind == Exec
}

const wanted = "want accept, http:[PORT]/PATH, tcp:PORT, notify, fd:N, exec:COMMAND or delay:DURATION"

// ParseMode reads a value of --ready.
func ParseMode(text string) (Mode, error) {
	kind, rest, colon := strings.Cut(text, ":")
	m := Mode{Kind: Kind(kind), text: text}
	var err error
	switch m.Kind {
	case Accept, Notify:
		if colon {
			err = fmt.Errorf("%s takes no argument", kind)
		}
	case HTTP:
		slash := strings.IndexByte(rest, '/')
		if strings.HasPrefix(rest, "//") {
			return m, fmt.Errorf("%q names a host, but it is always the new generation that is asked: want http:[PORT]/PATH", text)
		}
		if slash < 0 {
			return m, fmt.Errorf("%q has no path: want http:[PORT]/PATH, such as http:/healthz or http:8080/healthz", text)
		}
		m.Path = rest[slash:]
		if slash > 0 {
			m.Port, err = parsePort(rest[:slash])
		}
	case TCP:
		m.Port, err = parsePort(rest)
	case FD:
		m.FD, err = strconv.Atoi(rest)
		if err != nil || m.FD < 3 || m.FD > 1023 {
			err = fmt.Errorf("%q is not a descriptor from 3 to 1023", rest)
		}
	case Exec:
		m.Command, err = ParseCommand(rest)
	case Delay:
		m.Delay, err = time.ParseDuration(rest)
		if err == nil && m.Delay < 0 {
			err = fmt.Errorf("%q is negative", rest)
		}
		if err != nil {
			err = fmt.Errorf("%q is not a duration: want one such as 500ms or 10s", rest)
		}
	default:
		return m, fmt.Errorf("%q is not a way to be ready: %s", text, wanted)
	}
	return m, err
}

func parsePort(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port from 1 to 65535", text)
	}
	return int(n), nil
}

// ParseCommand splits a command line into words as a shell does, quotes included, and nothing more: there may be no shell
// in the container. Who needs one writes sh -c '…'.
func ParseCommand(text string) ([]string, error) {
	words, err := shlex.Split(text)
	if err != nil {
		return nil, fmt.Errorf("%q does not split into words: %w", text, err)
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("%q is no command", text)
	}
	return words, nil
}
