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
