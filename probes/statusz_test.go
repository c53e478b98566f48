package probes

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"holdfast/handoff/status"
)

func TestStatuszRoundTrip(t *testing.T) {
	for name, src := range map[string]still{"fresh": fresh(), "steady": steady(), "busy": busy(), "ending": ending()} {
		w := get(t, src, "GET", "/statusz", "")
		wantHeader(t, w, "Content-Type", "application/json")
		var got status.Document
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if want := src.document(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: came back as\n%+v\nwant\n%+v", name, got.Snapshot, want.Snapshot)
		}
	}
}

func TestStatuszIsOneLevel(t *testing.T) {
	var got map[string]json.RawMessage
	if err := json.Unmarshal(get(t, busy(), "GET", "/statusz", "").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"version", "live", "generations", "queues"} {
		if got[name] == nil {
			t.Errorf("%q is missing", name)
		}
	}
}

func TestStatuszFormat(t *testing.T) {
	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	for _, c := range []struct{ query, accept, want string }{
		{"", "", "application/json"},
		{"", "*/*", "application/json"},
		{"", "application/json", "application/json"},
		{"", "application/json, text/plain, */*", "application/json"},
		{"", "text/plain;q=0.5, application/json;q=0.9", "application/json"},
		{"", browser, "text/html; charset=utf-8"},
		{"", "text/html;q=0.5, application/json", "application/json"},
		{"", "text/plain, text/html;q=0.9", "text/plain; charset=utf-8"},
		{"?format=html", "application/json", "text/html; charset=utf-8"},
		{"?format=json", browser, "application/json"},
		{"", "nonsense;;;", "application/json"},
		{"", "text/plain", "text/plain; charset=utf-8"},
		{"", "text/plain, */*;q=0.1", "text/plain; charset=utf-8"},
		{"?format=text", "application/json", "text/plain; charset=utf-8"},
		{"?format=json", "text/plain", "application/json"},
	} {
		w := get(t, steady(), "GET", "/statusz"+c.query, c.accept)
		if got := w.Header().Get("Content-Type"); got != c.want || w.Code != 200 {
			t.Errorf("%q with Accept %q: %d %s, want %s", c.query, c.accept, w.Code, got, c.want)
		}
		wantHeader(t, w, "Vary", "Accept")
	}
	if w := get(t, steady(), "GET", "/statusz?format=xml", ""); w.Code != 400 || !strings.Contains(w.Body.String(), `"xml"`) {
		t.Errorf("format=xml: %d %s", w.Code, w.Body)
	}
}
