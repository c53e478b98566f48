package trigger

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

func of(pairs ...string) content {
	c := content{}
	for _, pair := range pairs {
		name, text, _ := strings.Cut(pair, "=")
		var d digest
		copy(d[:], text)
		c[name] = d
	}
	return c
}

func TestChanged(t *testing.T) {
	for _, tc := range []struct {
		name       string
		now, known content
		want       []string
	}{
		{"nothing", of(), of(), nil},
		{"the same", of("/a=1", "/b=1"), of("/a=1", "/b=1"), nil},
		{"other content", of("/a=2", "/b=1"), of("/a=1", "/b=1"), []string{"/a"}},
		{"new files, sorted", of("/c=1", "/b=1", "/a=1"), of("/b=1"), []string{"/a", "/c"}},
		{"vanished", of("/a=1"), of("/a=1", "/b=1"), nil},
		{"all vanished", of(), of("/a=1", "/b=1"), nil},
		{"vanished and changed", of("/a=2"), of("/a=1", "/b=1"), []string{"/a"}},
		{"from nothing", of("/a="), nil, []string{"/a"}},
	} {
		if got := tc.now.changed(tc.known); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestOverRemembersWhatHasVanished(t *testing.T) {
	known := of("/a=2").over(of("/a=1", "/b=1"))
	if !maps.Equal(known, of("/a=2", "/b=1")) {
		t.Errorf("got %v", known)
	}
	if got := of("/a=2", "/b=1").changed(known); got != nil {
		t.Errorf("came back as it was, changed: %q", got)
	}
	if got := of("/a=2", "/b=2").changed(known); !slices.Equal(got, []string{"/b"}) {
		t.Errorf("came back with other content, changed: %q", got)
	}
	many := content{}
	for i := range 3 * maxVanished {
		many[fmt.Sprint(i)] = digest{}
	}
	if got := len(of("/a=1").over(many)); got != maxVanished+1 {
		t.Errorf("%d remembered", got)
	}
}

func TestKeep(t *testing.T) {
	known := of("/d/a=1", "/d/e/b=1", "/dd=1")
	for failed, want := range map[string]content{
		"/d":     of("/x=1", "/d/a=1", "/d/e/b=1"),
		"/d/e":   of("/x=1", "/d/e/b=1"),
		"/d/a":   of("/x=1", "/d/a=1"),
		"/other": of("/x=1"),
	} {
		if got := of("/x=1").keep(known, map[string]error{failed: errReplaced}); !maps.Equal(got, want) {
			t.Errorf("%s failed: kept %v, want %v", failed, got, want)
		}
	}
}

func TestHash(t *testing.T) {
	seen := map[string]content{}
	for _, c := range []content{of("/a=1"), of("/a=2"), of("/b=1"), of("/a=1", "/b=1"), of("/a="), of("/a=1", "/b=2")} {
		h := c.hash()
		if len(h) != hashLength || seen[h] != nil {
			t.Errorf("%v and %v have the hash %q", c, seen[h], h)
		}
		seen[h] = c
	}
	if got := of("/b=1", "/a=1").hash(); got != of("/a=1", "/b=1").hash() {
		t.Errorf("the order matters")
	}
	if content(nil).hash() != "" {
		t.Error("nothing has a hash")
	}
}

func TestDue(t *testing.T) {
	at := func(seconds float64) time.Time {
		return time.Unix(1000, 0).Add(time.Duration(seconds * float64(time.Second)))
	}
	for _, tc := range []struct {
		name     string
		debounce time.Duration
		hints    []float64
		settled  float64 // when the random delay was drawn
		jitter   time.Duration
		later    []float64
		want     float64
	}{
		{"one hint", time.Second, []float64{0}, 0, 0, nil, 1},
		{"no debounce", 0, []float64{0}, 0, 0, nil, 0},
		{"restarted", time.Second, []float64{0, 0.5, 1.2}, 0, 0, nil, 2.2},
		{"capped at 10 s", time.Second, []float64{0, 5, 9.8}, 0, 0, nil, 10},
		{"capped at ten times", 5 * time.Second, []float64{0, 20, 40, 48}, 0, 0, nil, 50},
		{"delayed", time.Second, []float64{0}, 1, 30 * time.Second, nil, 31},
		{"a hint in the delay", time.Second, []float64{0}, 1, 30 * time.Second, []float64{10}, 31},
		{"a hint at the end of the delay", time.Second, []float64{0}, 1, 30 * time.Second, []float64{30.5}, 31.5},
		{"hints beyond the delay", time.Second, []float64{0}, 1, 30 * time.Second, []float64{30.5, 31, 40, 40.5}, 41},
	} {
		var p pending
		for _, s := range tc.hints {
			p = p.touched(at(s))
		}
		if tc.jitter > 0 {
			p = p.delayed(at(tc.settled), tc.jitter)
		}
		for _, s := range tc.later {
			p = p.touched(at(s))
		}
		if got := p.due(tc.debounce); !got.Equal(at(tc.want)) {
			t.Errorf("%s: due after %s, want %vs", tc.name, got.Sub(at(0)), tc.want)
		}
	}
}

func TestDecide(t *testing.T) {
	now := time.Unix(1000, 0)
	fresh := pending{}.touched(now.Add(-time.Second))
	old := pending{}.touched(now.Add(-11 * time.Second))
	drawn := fresh.delayed(now, 0)
	for _, tc := range []struct {
		name     string
		p        pending
		s        sight
		debounce time.Duration
		want     verdict
	}{
		{"as reported", fresh, sight{changed: false, stable: true}, time.Second, drop},
		{"as reported, unsure", fresh, sight{changed: false}, time.Second, drop},
		{"settled", fresh, sight{changed: true, stable: true}, time.Second, report},
		{"unsure", fresh, sight{changed: true}, time.Second, wait},
		{"unsure for too long", old, sight{changed: true}, time.Second, report},
		{"unsure, but at once is wanted", fresh, sight{changed: true}, 0, report},
		{"settled, delay", fresh, sight{changed: true, stable: true, jitter: 1}, time.Second, delay},
		{"delay is over", drawn, sight{changed: true, stable: true, jitter: 1}, time.Second, report},
		{"changed back in the delay", drawn, sight{stable: true, jitter: 1}, time.Second, drop},
		{"unsure after the delay", drawn, sight{changed: true, jitter: 1}, time.Second, wait},
	} {
		if got := tc.p.decide(tc.s, now, tc.debounce); got != tc.want {
			t.Errorf("%s: verdict %d, want %d", tc.name, got, tc.want)
		}
	}
}

func TestIsToken(t *testing.T) {
	jwt := func(header, payload string) string {
		enc := base64.RawURLEncoding.EncodeToString
		return enc([]byte(header)) + "." + enc([]byte(payload)) + "." + enc([]byte("sig"))
	}
	head := `{"alg":"RS256"}`
	for text, want := range map[string]bool{
		jwt(head, `{"exp":1,"kubernetes.io":{}}`):                   true,
		jwt(head, `{"exp":1,"kubernetes.io":{}}`) + "\n":            true,
		jwt(head, `{"kubernetes.io/serviceaccount/namespace":"x"}`): false,
		jwt(head, `{"kubernetes.io":{}}`):                           false,
		jwt(head, `{"exp":1}`):                                      false,
		jwt(head, `["exp","kubernetes.io"]`):                        false,
		jwt(head, `{"exp":1,"kubernetes.io":{}}`) + ".x":            false,
		jwt(`["a"]`, `{"exp":1,"kubernetes.io":{}}`):                false,
		"token: " + jwt(head, `{"exp":1,"kubernetes.io":{}}`):       false,
		"eyJ.!!.x": false,
		"":         false,
		"a.b.c":    false,
	} {
		if got := isToken([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestParseMounts(t *testing.T) {
	mounts := parseMounts(strings.NewReader(strings.Join([]string{
		`22 1 0:21 / / rw - overlay overlay rw`,
		`23 22 8:1 /var/lib/kubelet/pods/1/volumes/kubernetes.io~configmap/c/..2026_11_22_19_21_51.1/conf /etc/a\040b rw - ext4 /dev/sda rw`,
		`24 22 0:50 /..2026_11_22_19_21_51.1/key//deleted /etc/secret rw - tmpfs tmpfs rw`,
		`25 22 8:1 /home/u/app.conf /etc/app.conf rw - ext4 /dev/sda rw`,
		`26 22 8:1 /home/u/old.conf//deleted /etc/old.conf rw - ext4 /dev/sda rw`,
		`27 22 8:1 /x /etc/twice rw - ext4 /dev/sda rw`,
		`28 22 8:1 /y /etc/twice rw - ext4 /dev/sda rw`,
		`nonsense`,
	}, "\n")))
	for point, want := range map[string]string{
		"/etc/a b":      " is a subPath mount: the kubelet never updates it",
		"/etc/secret":   " is a subPath mount: the kubelet never updates it",
		"/etc/app.conf": " is a mount of a single file: what replaces that by rename is never seen",
		"/etc/old.conf": " is a mount of something that has been removed or replaced where it came from: it never changes again",
		"/etc/none":     "",
	} {
		if got := mountWarning(mounts[point], false); got != want {
			t.Errorf("%s%s, want%s", point, got, want)
		}
	}
	if got := mountWarning(mount{root: "/", point: "/etc/config"}, true); got != "" {
		t.Errorf("a whole volume%s", got)
	}
	if got := mounts["/etc/twice"].root; got != "/y" {
		t.Errorf("of two mounts %s is seen", got)
	}
}

func TestWants(t *testing.T) {
	p := places{
		"/etc/config": {all: true, names: map[string]bool{}},
		"/etc":        {names: map[string]bool{"config": true}},
	}
	for path, want := range map[string]bool{
		"/etc/config":                      true,
		"/etc/config/..data":               true,
		"/etc/config/..data_tmp":           false,
		"/etc/config/..2026_11_22_1_2_3.4": false,
		"/etc/config/key":                  true,
		"/etc/passwd":                      false,
		"/etc":                             true,
		"/tmp/config":                      false,
	} {
		if got := p.wants(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}
