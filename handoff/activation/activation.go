// Package activation is what a generation is given at its start: the held ports' sockets as descriptors, the variables
// by which servers learn of them, and the rest of its environment. It opens no socket and starts no process.
//
// Sockets begin at descriptor 3, already bound and listening, in the order of the --listen flags.
package activation

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"holdfast/handoff/port"
)

// First is the descriptor of the first socket (sd_listen_fds(3), SD_LISTEN_FDS_START).
const First = 3

// Convention is a way of taking sockets over that a server has to be asked for, since the variable by itself changes
// what the server does.
type Convention string

// The conventions on request.
const (
	Nginx  Convention = "nginx"   // NGINX=3;4; as nginx gives it to its successor: the config must listen on the same addresses
	PHPFPM Convention = "php-fpm" // FPM_SOCKETS=127.0.0.1:9000=3,/run/fpm.sock=4
	Inetd  Convention = "inetd"   // the first socket is descriptor 0 too, as inetd's wait services and Java's inheritedChannel have it
)

// ParseConvention reads the value of --activation.
func ParseConvention(text string) (Convention, error) {
	switch c := Convention(text); c {
	case Nginx, PHPFPM, Inetd:
		return c, nil
	}
	return "", fmt.Errorf("%q is not known: want nginx, php-fpm or inetd", text)
}

// Environ returns base without what another holder may have left in it (see stale), and with the variables of generation that tell
// of the sockets: systemd's LISTEN_FDS and LISTEN_FDNAMES (not LISTEN_PID: see PIDVariable), Server::Starter's, einhorn's, and those of the conventions asked for.
func Environ(base []string, sockets []port.Spec, generation int, conventions []Convention) []string {
	env := without(base, stale(base, len(sockets) > 0, conventions))
	env = append(env, Mark(generation))
	if len(sockets) == 0 {
		return env
	}
	env = append(env,
		"LISTEN_FDS="+strconv.Itoa(len(sockets)),
		"LISTEN_FDNAMES="+names(sockets),
		"SERVER_STARTER_PORT="+join(sockets, ";", starterSpec),
		"SERVER_STARTER_GENERATION="+strconv.Itoa(generation),
		"EINHORN_FD_COUNT="+strconv.Itoa(len(sockets)),
		"EINHORN_FDS="+einhornList(sockets))
	for i := range sockets {
		env = append(env, fmt.Sprintf("EINHORN_FD_%d=%d", i, First+i))
	}
	for _, c := range conventions {
		switch c {
		case Nginx:
			env = append(env, "NGINX="+nginxList(sockets))
		case PHPFPM:
			env = append(env, "FPM_SOCKETS="+join(sockets, ",", fpmAddress))
		}
	}
	return env
}

// Bare returns base to the letter, unless it tells the process pid, this one, of sockets that it was given: they are its
// child's, as catatonit has it. Then the variable pidVariable is to name that one, and is not in env.
func Bare(base []string, pid int) (env []string, pidVariable string) {
	if !slices.Contains(base, listenPID+"="+strconv.Itoa(pid)) {
		return slices.Clone(base), ""
	}
	return without(base, is(listenPID, "LISTEN_PIDFDID")), listenPID
}

// Passed returns the variables that tell the process pid, this one, of sockets that it was given itself: they are its
// child's. It keeps their numbers, so that the first one's goes along.
func Passed(environ []string, pid int) []string {
	var passed []string
	named := false
	for _, kv := range environ {
		switch name, value, _ := strings.Cut(kv, "="); name {
		case listenPID:
			named = value == strconv.Itoa(pid)
		case "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_FDS_FIRST_FD":
			passed = append(passed, kv)
		}
	}
	if !named {
		return nil
	}
	return passed
}

const listenPID = "LISTEN_PID"

// PIDVariable returns the name of the variable that env lacks because its value is the pid of whoever receives the sockets,
// which nobody knows before the fork: LISTEN_PID where sockets are passed, else "".
func PIDVariable(env []string) string {
	for _, kv := range env {
		if strings.HasPrefix(kv, "LISTEN_FDS=") {
			return listenPID
		}
	}
	return ""
}

// Mark is the variable by which a generation's descendants are told from another's.
func Mark(generation int) string { return "HOLDFAST_GENERATION=" + strconv.Itoa(generation) }

func without(env []string, drop func(name string) bool) []string {
	kept := make([]string, 0, len(env)+12)
	for _, kv := range env {
		if name, _, _ := strings.Cut(kv, "="); !drop(name) {
			kept = append(kept, kv)
		}
	}
	return kept
}

// names is LISTEN_FDNAMES: "unknown" stands for a socket without a name (sd_listen_fds_with_names(3)).
func names(sockets []port.Spec) string {
	list := make([]string, len(sockets))
	for i, s := range sockets {
		if list[i] = s.Name; s.Name == "" {
			list[i] = "unknown"
		}
	}
	return strings.Join(list, ":")
}

// join writes spec=fd for each socket.
func join(sockets []port.Spec, separator string, spec func(port.Spec) string) string {
	list := make([]string, len(sockets))
	for i, s := range sockets {
		list[i] = fmt.Sprintf("%s=%d", spec(s), First+i)
	}
	return strings.Join(list, separator)
}

// starterSpec is how Server::Starter names a socket: PORT for any address, HOST:PORT, or a path.
func starterSpec(s port.Spec) string {
	if s.Path == "" && s.DualStack {
		return strconv.Itoa(int(s.Addr.Port()))
	}
	return address(s)
}

func address(s port.Spec) string {
	if s.Path != "" {
		return s.Path
	}
	return s.Addr.String()
}

// fpmAddress is what php-fpm compares with: an IPv6 address stands without brackets there (fpm_sockets_hash_op).
func fpmAddress(s port.Spec) string {
	if s.Path != "" {
		return s.Path
	}
	return s.Addr.Addr().String() + ":" + strconv.Itoa(int(s.Addr.Port()))
}

// nginxList ends each number with ";": nginx ignores what is not ended.
func nginxList(sockets []port.Spec) string {
	var b strings.Builder
	for i := range sockets {
		fmt.Fprintf(&b, "%d;", First+i)
	}
	return b.String()
}

// einhornList is einhorn's older form, which socketmaster's children read too.
func einhornList(sockets []port.Spec) string {
	list := make([]string, len(sockets))
	for i := range sockets {
		list[i] = strconv.Itoa(First + i)
	}
	return strings.Join(list, " ")
}
