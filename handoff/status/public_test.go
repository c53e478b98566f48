package status

import (
	"slices"
	"testing"
)

func TestPublic(t *testing.T) {
	for _, c := range []struct{ command, want []string }{
		{[]string{"nginx", "-g", "daemon off;"}, []string{"nginx", "-g", "daemon off;"}},
		{[]string{"app", "--password=x", "--db-token", "y", "--port", "80"}, []string{"app", "--password=…", "--db-token", "…", "--port", "80"}},
		{[]string{"java", "-Dapi.secret=x", "-jar", "a.jar"}, []string{"java", "-Dapi.secret=…", "-jar", "a.jar"}},
		{[]string{"app", "--token-file=/run/t", "--password-file", "/run/p"}, []string{"app", "--token-file=/run/t", "--password-file", "/run/p"}},
		{[]string{"app", "--secret", "--verbose"}, []string{"app", "--secret", "--verbose"}},
		{[]string{"token", "value"}, []string{"token", "value"}},
		{[]string{"app", "postgres://user:p:w@db/x?y=1"}, []string{"app", "postgres://user:…@db/x?y=1"}},
		{[]string{"app", "--dsn=postgres://user:pw@db/x"}, []string{"app", "--dsn=postgres://user:…@db/x"}},
		{[]string{"app", "http://host/a:b@c"}, []string{"app", "http://host/a:b@c"}},
		{[]string{"app", "http://u:%zz@host"}, []string{"app", "…"}},
		{nil, []string{}},
	} {
		if got := Public(c.command); !slices.Equal(got, c.want) {
			t.Errorf("Public(%q) = %q, want %q", c.command, got, c.want)
		}
	}
}
