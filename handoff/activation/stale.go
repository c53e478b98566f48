package activation

import (
	"slices"
	"strconv"
	"strings"
)

// protocol is a way of telling a server of its descriptors by variables.
type protocol struct {
	convention Convention // by which it is asked for; "" = it is spoken to every server
	has        func(name string) bool
	lists      func(name, value string) bool // the variable is its list of descriptors, or of that form
}

// protocols are all but systemd's, whose variables have no other meaning.
func protocols() []protocol {
	return []protocol{
		{Nginx, is("NGINX"), func(name, value string) bool { return name == "NGINX" && nginxListed(value) }},
		{PHPFPM, is("FPM_SOCKETS"), func(name, value string) bool { return name == "FPM_SOCKETS" && assigned(value, ",") }},
		{"", is("SERVER_STARTER_PORT", "SERVER_STARTER_GENERATION"),
			func(name, value string) bool { return name == "SERVER_STARTER_PORT" && assigned(value, ";") }},
		{"", func(name string) bool { return strings.HasPrefix(name, "EINHORN_") },
			func(name, value string) bool {
				return strings.HasPrefix(name, "EINHORN_FD") && numbers(strings.Fields(value))
			}},
	}
}

// stale returns the variables of base that are not for the child: those that only its own holder can set truly. The names of
// other protocols may be a user's own (NGINX=/usr/sbin/nginx), so that these go only where holdfast speaks that protocol
// itself, or where it lists descriptors that the child would take, and that are not there.
func stale(base []string, sockets bool, conventions []Convention) (drop func(name string) bool) {
	var gone []protocol
	for _, p := range protocols() {
		ours := sockets && (p.convention == "" || slices.Contains(conventions, p.convention))
		if ours || slices.ContainsFunc(base, func(kv string) bool { name, value, _ := strings.Cut(kv, "="); return p.lists(name, value) }) {
			gone = append(gone, p)
		}
	}
	return func(name string) bool {
		return holders(name) || slices.ContainsFunc(gone, func(p protocol) bool { return p.has(name) })
	}
}

// holders says whether a variable means one thing only, which its holder alone knows. LISTEN_PIDFDID (systemd 259) names the
// receiver by the inode of its pidfd: left in place it would make sd_listen_fds refuse the sockets. LISTEN_FDS_FIRST_FD
// (systemfd, watchexec) moves the first socket to another descriptor.
func holders(name string) bool {
	switch name {
	case "LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES", "LISTEN_FDS_FIRST_FD", "HOLDFAST_GENERATION", "NOTIFY_SOCKET":
		return true
	}
	return false
}

func is(names ...string) func(name string) bool {
	return func(name string) bool { return slices.Contains(names, name) }
}

// nginxListed says whether nginx would find a descriptor in value: each number ends with ";" or ":".
func nginxListed(value string) bool {
	isEnd := func(r rune) bool { return r == ';' || r == ':' }
	return strings.ContainsFunc(value, isEnd) && numbers(strings.FieldsFunc(value, isEnd))
}

// assigned says whether value has a part that ends with =fd. One is enough: a path may have a separator in it.
func assigned(value, separator string) bool {
	return slices.ContainsFunc(strings.Split(value, separator), func(part string) bool {
		i := strings.LastIndex(part, "=")
		return i > 0 && numbers([]string{part[i+1:]})
	})
}

// numbers says whether there are words, and each is a number.
func numbers(words []string) bool {
	return len(words) > 0 && !slices.ContainsFunc(words, func(word string) bool { _, err := strconv.ParseUint(word, 10, 31); return err != nil })
}
