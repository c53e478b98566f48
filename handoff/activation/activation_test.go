package activation_test

import (
	"slices"
	"strings"
	"testing"

	"holdfast/handoff/activation"
	"holdfast/handoff/port"
)

func specs(t *testing.T, addresses ...string) []port.Spec {
	t.Helper()
	list := make([]port.Spec, len(addresses))
	for i, a := range addresses {
		var err error
		if list[i], err = port.ParseSpec(a); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// ownVariables have names that holders use, and list no descriptors.
var ownVariables = []string{"NGINX=/usr/sbin/nginx", "FPM_SOCKETS=/run/php", "SERVER_STARTER_PORT=8080", "SERVER_STARTER_GENERATION=x",
	"EINHORN_URL=http://x", "EINHORN_FD_PATH=/x"}

// TestEnviron: byte for byte what the servers read.
func TestEnviron(t *testing.T) {
	for name, c := range map[string]struct {
		base        []string
		listen      []string
		conventions []activation.Convention
		want        []string
	}{
		"nothing held": {
			base: []string{"A=1"},
			want: []string{"A=1", "HOLDFAST_GENERATION=3"},
		},
		"any address": {
			listen: []string{":8080"},
			want: []string{"HOLDFAST_GENERATION=3", "LISTEN_FDS=1", "LISTEN_FDNAMES=unknown", "SERVER_STARTER_PORT=8080=3",
				"SERVER_STARTER_GENERATION=3", "EINHORN_FD_COUNT=1", "EINHORN_FDS=3", "EINHORN_FD_0=3"},
		},
		"each kind, some with names": {
			base:   []string{"PATH=/bin"},
			listen: []string{"web=127.0.0.1:80", "[::1]:443", "dns=udp://:53", "unix:///run/app.sock", "0.0.0.0:81"},
			want: []string{"PATH=/bin", "HOLDFAST_GENERATION=3", "LISTEN_FDS=5", "LISTEN_FDNAMES=web:unknown:dns:unknown:unknown",
				"SERVER_STARTER_PORT=127.0.0.1:80=3;[::1]:443=4;53=5;/run/app.sock=6;0.0.0.0:81=7", "SERVER_STARTER_GENERATION=3",
				"EINHORN_FD_COUNT=5", "EINHORN_FDS=3 4 5 6 7", "EINHORN_FD_0=3", "EINHORN_FD_1=4", "EINHORN_FD_2=5", "EINHORN_FD_3=6", "EINHORN_FD_4=7"},
		},
		"nginx": {
			listen: []string{":80", ":443"}, conventions: []activation.Convention{activation.Nginx},
			want: []string{"HOLDFAST_GENERATION=3", "LISTEN_FDS=2", "LISTEN_FDNAMES=unknown:unknown", "SERVER_STARTER_PORT=80=3;443=4",
				"SERVER_STARTER_GENERATION=3", "EINHORN_FD_COUNT=2", "EINHORN_FDS=3 4", "EINHORN_FD_0=3", "EINHORN_FD_1=4", "NGINX=3;4;"},
		},
		"php-fpm and inetd": {
			listen:      []string{"127.0.0.1:9000", "unix:///run/fpm.sock", "[::1]:9001", ":9002"},
			conventions: []activation.Convention{activation.PHPFPM, activation.Inetd},
			want: []string{"HOLDFAST_GENERATION=3", "LISTEN_FDS=4", "LISTEN_FDNAMES=unknown:unknown:unknown:unknown",
				"SERVER_STARTER_PORT=127.0.0.1:9000=3;/run/fpm.sock=4;[::1]:9001=5;9002=6", "SERVER_STARTER_GENERATION=3",
				"EINHORN_FD_COUNT=4", "EINHORN_FDS=3 4 5 6", "EINHORN_FD_0=3", "EINHORN_FD_1=4", "EINHORN_FD_2=5", "EINHORN_FD_3=6",
				"FPM_SOCKETS=127.0.0.1:9000=3,/run/fpm.sock=4,::1:9001=5,:::9002=6"},
		},
		"what another holder left": {
			base: []string{"LISTEN_FDS=9", "LISTEN_PID=1", "LISTEN_PIDFDID=77", "LISTEN_FDS_FIRST_FD=5", "LISTEN_FDNAMES=x", "HOLDFAST_GENERATION=8", "NOTIFY_SOCKET=/run/n",
				"SERVER_STARTER_PORT=1=2", "SERVER_STARTER_GENERATION=4", "NGINX=3;", "FPM_SOCKETS=a=3", "EINHORN_FD_0=7", "EINHORN_MASTER_PID=1",
				"EINHORN_SOCK_PATH=/x", "KEPT=LISTEN_FDS=1", "LISTEN_FDS_NOT=1", "NGINX_PORT=80", "nginx=1", "NOVALUE"},
			want: []string{"KEPT=LISTEN_FDS=1", "LISTEN_FDS_NOT=1", "NGINX_PORT=80", "nginx=1", "NOVALUE", "HOLDFAST_GENERATION=3"},
		},
		"a user's own variables, nothing held": {
			base: ownVariables,
			want: append(slices.Clone(ownVariables), "HOLDFAST_GENERATION=3"),
		},
		"a user's own variables of a protocol that is not asked for, and of those that are spoken": {
			base: ownVariables, listen: []string{":80"},
			want: []string{"NGINX=/usr/sbin/nginx", "FPM_SOCKETS=/run/php", "HOLDFAST_GENERATION=3", "LISTEN_FDS=1", "LISTEN_FDNAMES=unknown",
				"SERVER_STARTER_PORT=80=3", "SERVER_STARTER_GENERATION=3", "EINHORN_FD_COUNT=1", "EINHORN_FDS=3", "EINHORN_FD_0=3"},
		},
		"a user's own variables of those that are asked for": {
			base: []string{"NGINX=/usr/sbin/nginx", "FPM_SOCKETS=/run/php"}, listen: []string{":80"},
			conventions: []activation.Convention{activation.Nginx, activation.PHPFPM},
			want: []string{"HOLDFAST_GENERATION=3", "LISTEN_FDS=1", "LISTEN_FDNAMES=unknown",
				"SERVER_STARTER_PORT=80=3", "SERVER_STARTER_GENERATION=3", "EINHORN_FD_COUNT=1", "EINHORN_FDS=3", "EINHORN_FD_0=3", "NGINX=3;", "FPM_SOCKETS=:::80=3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := slices.Clone(c.base)
			got := activation.Environ(base, specs(t, c.listen...), 3, c.conventions)
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(c.want, "\n  "))
			}
			if !slices.Equal(base, c.base) {
				t.Errorf("it has changed what it was given: %q", base)
			}
		})
	}
}

// TestEnvironLists: what lists descriptors that are not there is dropped, and nothing else.
func TestEnvironLists(t *testing.T) {
	for kv, want := range map[string]bool{
		"NGINX=3;4;": true, "NGINX=3:": true, "NGINX=3;4": true, "NGINX=3": false, "NGINX=;": false, "NGINX=": false, "NGINX=a;3;": false, "NGINX": false,
		"FPM_SOCKETS=127.0.0.1:9000=3": true, "FPM_SOCKETS=/a,b=3,/c=4": true, "FPM_SOCKETS=a=b": false, "FPM_SOCKETS==3": false, "FPM_SOCKETS=": false,
		"SERVER_STARTER_PORT=127.0.0.1:80=3": true, "SERVER_STARTER_PORT=80=3;/run/a=4": true, "SERVER_STARTER_PORT=/a;b=3": true,
		"SERVER_STARTER_PORT=80": false, "SERVER_STARTER_PORT=80=": false, "SERVER_STARTER_PORT=80=x": false, "SERVER_STARTER_GENERATION=1": false,
		"EINHORN_FDS=3 4": true, "EINHORN_FD_0=3": true, "EINHORN_FD_COUNT=1": true, "EINHORN_FDS=": false, "EINHORN_FD_0=x": false, "EINHORN_MASTER_PID=7": false,
	} {
		if got := !slices.Contains(activation.Environ([]string{kv}, nil, 1, nil), kv); got != want {
			t.Errorf("%s: dropped: %v, want %v", kv, got, want)
		}
	}
}

// TestBare: everything to the letter, but for who is named as the receiver of this process' own sockets.
func TestBare(t *testing.T) {
	env := append([]string{"LISTEN_FDS=2", "LISTEN_PID=7", "LISTEN_PIDFDID=9", "LISTEN_FDNAMES=a:b", "NGINX=3;", "EINHORN_FD_0=3", "HOLDFAST_GENERATION=1", "NOTIFY_SOCKET=/x"}, ownVariables...)
	if got, variable := activation.Bare(env, 8); !slices.Equal(got, env) || variable != "" {
		t.Errorf("another is named: %q, %q", got, variable)
	}
	if got, variable := activation.Bare(env[:1], 7); !slices.Equal(got, env[:1]) || variable != "" {
		t.Errorf("nobody is named: %q, %q", got, variable)
	}
	want := slices.Delete(slices.Clone(env), 1, 3)
	if got, variable := activation.Bare(env, 7); !slices.Equal(got, want) || variable != "LISTEN_PID" {
		t.Errorf("this process is named: %q, %q, want %q", got, variable, want)
	}
}

// TestEnvironDoesNotShare: two generations' environments made from one base do not write into each other.
func TestEnvironDoesNotShare(t *testing.T) {
	base := append(make([]string, 0, 100), "A=1")
	one := activation.Environ(base, nil, 1, nil)
	two := activation.Environ(base, nil, 2, nil)
	if one[1] != "HOLDFAST_GENERATION=1" || two[1] != "HOLDFAST_GENERATION=2" {
		t.Errorf("got %q and %q", one, two)
	}
}

func TestParseConvention(t *testing.T) {
	for _, good := range []activation.Convention{activation.Nginx, activation.PHPFPM, activation.Inetd} {
		if got, err := activation.ParseConvention(string(good)); err != nil || got != good {
			t.Errorf("ParseConvention(%q) = %q, %v", good, got, err)
		}
	}
	for _, bad := range []string{"", "NGINX", "nginx ", "apache"} {
		if got, err := activation.ParseConvention(bad); err == nil || got != "" || !strings.Contains(err.Error(), "want nginx, php-fpm or inetd") {
			t.Errorf("ParseConvention(%q) = %q, %v", bad, got, err)
		}
	}
}

func TestMerge(t *testing.T) {
	for name, c := range map[string]struct{ base, more, want []string }{
		"nothing":                  {nil, nil, nil},
		"only base":                {[]string{"A=1", "A=2"}, nil, []string{"A=1", "A=2"}},
		"new":                      {[]string{"A=1"}, []string{"B=2"}, []string{"A=1", "B=2"}},
		"set anew":                 {[]string{"A=1", "B=2"}, []string{"A=3"}, []string{"B=2", "A=3"}},
		"the last one wins":        {[]string{"C=0"}, []string{"A=1", "B=2", "A=3"}, []string{"C=0", "A=3", "B=2"}},
		"set to nothing":           {[]string{"A=1"}, []string{"A="}, []string{"A="}},
		"= in the value":           {[]string{"A=1"}, []string{"A=x=y"}, []string{"A=x=y"}},
		"a name that begins alike": {[]string{"AB=1"}, []string{"A=2"}, []string{"AB=1", "A=2"}},
	} {
		if got := activation.Merge(c.base, c.more); !slices.Equal(got, c.want) {
			t.Errorf("%s: Merge(%q, %q) = %q, want %q", name, c.base, c.more, got, c.want)
		}
	}
}

func TestPIDVariable(t *testing.T) {
	for name, env := range map[string][]string{"LISTEN_PID": {"A=1", "LISTEN_FDS=2"}, "": {"A=1", "NOT_LISTEN_FDS=1", "LISTEN_FDNAMES=x"}} {
		if got := activation.PIDVariable(env); got != name {
			t.Errorf("%q: %q, want %q", env, got, name)
		}
	}
}
