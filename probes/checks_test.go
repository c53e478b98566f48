package probes

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"holdfast/handoff/status"
)

func failing(r status.Readiness) still {
	s := steady()
	s.s.Ready = r
	return s
}

func TestChecks(t *testing.T) {
	handoff := failing(status.Readiness{Handoff: "generation 2\nis proving"})
	all := failing(status.Readiness{Live: "no generation is live", Handoff: "in flight", Shutdown: "terminating"})
	const passed = "[+]live ok\n[+]handoff ok\n[+]shutdown ok\nreadyz check passed\n"
	for _, c := range []struct {
		name   string
		src    Source
		target string
		code   int
		body   string
	}{
		{"ready", steady(), "/readyz", 200, "ok"},
		{"ready, verbose", steady(), "/readyz?verbose", 200, passed},
		{"verbose with a value", steady(), "/readyz?verbose=true", 200, passed},
		{"a failure is always verbose", handoff, "/readyz", 503,
			"[+]live ok\n[-]handoff failed: generation 2 is proving\n[+]shutdown ok\nreadyz check failed\n"},
		{"live alone", failing(status.Readiness{Live: "none"}), "/readyz", 503,
			"[-]live failed: none\n[+]handoff ok\n[+]shutdown ok\nreadyz check failed\n"},
		{"shutdown alone", failing(status.Readiness{Shutdown: "terminating"}), "/readyz", 503,
			"[+]live ok\n[+]handoff ok\n[-]shutdown failed: terminating\nreadyz check failed\n"},
		{"all fail", all, "/readyz", 503,
			"[-]live failed: no generation is live\n[-]handoff failed: in flight\n[-]shutdown failed: terminating\nreadyz check failed\n"},
		{"excluded", handoff, "/readyz?exclude=handoff", 200, "ok"},
		{"excluded and shown whole", handoff, "/readyz?exclude=handoff&verbose", 200,
			"[+]live ok\n[-]handoff excluded: generation 2 is proving\n[+]shutdown ok\nreadyz check passed\n"},
		{"excluded and well", steady(), "/readyz?exclude=handoff&verbose", 200,
			"[+]live ok\n[+]handoff excluded: ok\n[+]shutdown ok\nreadyz check passed\n"},
		{"excluded twice, one still fails", all, "/readyz?exclude=handoff&exclude=live", 503,
			"[-]live excluded: no generation is live\n[-]handoff excluded: in flight\n[-]shutdown failed: terminating\nreadyz check failed\n"},
		{"all excluded", all, "/readyz?exclude=handoff&exclude=live&exclude=shutdown", 200, "ok"},
		{"unknown exclusions", steady(), "/readyz?verbose&exclude=x&exclude=y%0A&exclude=x", 200,
			"[+]live ok\n[+]handoff ok\n[+]shutdown ok\nwarn: some health checks cannot be excluded: no matches for \"x\",\"y\\n\"\nreadyz check passed\n"},
		{"an unknown exclusion changes nothing", steady(), "/readyz?exclude=x", 200, "ok"},
		{"one check", handoff, "/readyz/live", 200, "ok"},
		{"one check, verbose", handoff, "/readyz/live?verbose", 200, "[+]live ok\nreadyz check passed\n"},
		{"one check that fails", handoff, "/readyz/handoff", 503, "[-]handoff failed: generation 2 is proving\nreadyz check failed\n"},
		{"one check is not excluded", handoff, "/readyz/handoff?exclude=handoff", 503,
			"[-]handoff failed: generation 2 is proving\nreadyz check failed\n"},
		{"unknown check", steady(), "/readyz/nonsense", 404, "no check \"nonsense\" here: readyz has live, handoff, shutdown\n"},
		{"no check", steady(), "/readyz/", 404, "404 page not found\n"},
		{"unknown path", steady(), "/debug/pprof/", 404, "404 page not found\n"},
		{"no control", steady(), "/reload?wait=true", 404, "404 page not found\n"},

		{"alive, whatever readyz says", all, "/livez", 200, "ok"},
		{"alive, verbose", all, "/livez?verbose", 200, "[+]ping ok\nlivez check passed\n"},
		{"healthz", all, "/healthz?verbose", 200, "[+]ping ok\nhealthz check passed\n"},
		{"ping", all, "/livez/ping", 200, "ok"},
		{"no loop to ask", all, "/livez/loop", 404, "no check \"loop\" here: livez has ping\n"},
		{"loop", beating{steady(), LoopPatience}, "/livez?verbose", 200, "[+]ping ok\n[+]loop ok\nlivez check passed\n"},
		{"loop hangs", beating{steady(), 12 * time.Second}, "/livez", 503,
			"[+]ping ok\n[-]loop failed: no sign of life for 12s\nlivez check failed\n"},
		{"loop hangs, excluded", beating{steady(), 12 * time.Second}, "/livez?exclude=loop", 200, "ok"},

		{"index", steady(), "/", 200, "holdfast v1.2.3\n\n" + index},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := get(t, c.src, "GET", c.target, "")
			if w.Code != c.code || w.Body.String() != c.body {
				t.Errorf("GET %s: %d\n%s\nwant %d\n%s", c.target, w.Code, w.Body, c.code, c.body)
			}
			wantHeader(t, w, "Content-Type", "text/plain; charset=utf-8")
		})
	}
}

// get also sees to what holds for every answer.
func get(t *testing.T, src Source, method, target, accept string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	Handler(src, "v1.2.3").ServeHTTP(w, r)
	wantHeader(t, w, "Cache-Control", "no-store")
	wantHeader(t, w, "X-Content-Type-Options", "nosniff")
	return w
}

func wantHeader(t *testing.T, w *httptest.ResponseRecorder, name, want string) {
	t.Helper()
	if got := w.Header().Get(name); got != want {
		t.Errorf("header %s is %q, want %q", name, got, want)
	}
}

func TestMethods(t *testing.T) {
	for _, path := range []string{"/", "/livez", "/livez/ping", "/healthz", "/readyz", "/readyz/live", "/statusz", "/metrics"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
			w := get(t, steady(), method, path, "")
			if w.Code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, w.Code)
			}
			wantHeader(t, w, "Allow", "GET, HEAD")
		}
		if w := get(t, steady(), "HEAD", path, ""); w.Code != http.StatusOK {
			t.Errorf("HEAD %s: %d", path, w.Code)
		}
	}
}

func TestHeadOverTheWireHasNoBody(t *testing.T) {
	s := httptest.NewServer(Handler(failing(status.Readiness{Live: "none"}), "v"))
	defer s.Close()
	resp, err := http.Head(s.URL + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 503 || resp.ContentLength <= 0 {
		t.Errorf("got %d with length %d", resp.StatusCode, resp.ContentLength)
	}
}

func TestIndexNamesEveryEndpoint(t *testing.T) {
	for _, path := range []string{"/livez", "/readyz", "/statusz", "/metrics"} {
		if !strings.Contains(index, "\n"+path+" ") && !strings.HasPrefix(index, path+" ") {
			t.Errorf("the index lacks %s", path)
		}
	}
}
