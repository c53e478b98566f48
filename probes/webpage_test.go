package probes

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"

	"holdfast/handoff/status"
)

const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

// parsePage reads the page as a browser does.
func parsePage(t *testing.T, text string) *html.Node {
	t.Helper()
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// find returns the first element that ok holds for.
func find(n *html.Node, ok func(*html.Node) bool) *html.Node {
	for d := range n.Descendants() {
		if d.Type == html.ElementNode && ok(d) {
			return d
		}
	}
	return nil
}

func byID(root *html.Node, id string) *html.Node {
	return find(root, func(n *html.Node) bool { return attribute(n, "id") == id })
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// textOf is what is read at a node, in one line.
func textOf(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// TestPageSays: each section of the page, without a script, tells what the snapshot says.
func TestPageSays(t *testing.T) {
	for name, c := range map[string]struct {
		src  still
		says map[string][]string
	}{
		"fresh":  {fresh(), map[string][]string{"ready": {"Not ready", "generation 1 is not proven yet"}, "ports": {"No port is held"}, "handoffs": {"None yet"}}},
		"steady": {steady(), map[string][]string{"ready": {"Ready"}, "live": {"Generation 1 has been live for 3s"}, "ports": {"0.0.0.0:8080", "reuseport", "0/511"}, "notes": {""}}},
		"busy": {busy(), map[string][]string{
			"ready":       {"Not ready : generation 5 is proving"},
			"live":        {"Generation 4", "started by watch", "5f2c9e0a11bc"},
			"notes":       {"udp://[::]:53 is shared"},
			"handoff":     {"4 → 5, by signal", "start 1.0s", "prove now", "One more trigger waits"},
			"generations": {"5 proving 3s 1203 signal 00ff", "2 draining 2h08m 31 start - 17 stop sent", "exit 1"},
			"ports":       {"0.0.0.0:8080", "generation 2: 3/511", "udp://[::]:53"},
			"handoffs":    {"2 → 3 failed signal", "exited while it was proven: exit 1", "2 → 4 completed watch", "drain 7.7s"},
			"facts":       {"java", "2 handoffs", "/etc/app", "Configuration on disk 00ff"},
			"timeline":    {"generation 2 · draining, 17 connections", "draining", "failed handoff", "now"},
		}},
		"ending": {ending(), map[string][]string{"notes": {"terminating", "The last handoff, 1 → -, has failed: the check failed: nginx -t: exit 1. Nothing was started", "4b2c9e0a11bc , was rejected"}, "live": {"No generation is live"}}},
	} {
		root := parsePage(t, pageAt(c.src, ""))
		for section, wants := range c.says {
			n := byID(root, section)
			if n == nil {
				t.Errorf("%s: no section %q", name, section)
				continue
			}
			for _, want := range wants {
				if got := textOf(n); !strings.Contains(got, want) || want == "" && got != "" {
					t.Errorf("%s: section %q lacks %q:\n%s", name, section, want, got)
				}
			}
		}
		for _, path := range []string{"/", "/statusz"} {
			w := get(t, c.src, "GET", path, browser)
			wantHeader(t, w, "Content-Type", "text/html; charset=utf-8")
			if got, want := textOf(byID(parsePage(t, w.Body.String()), "live"))[:10], textOf(byID(root, "live"))[:10]; got != want {
				t.Errorf("%s: %s begins with %q, want %q", name, path, got, want)
			}
		}
	}
}

// TestPageIsAccessible: what a screen reader needs to be told.
func TestPageIsAccessible(t *testing.T) {
	root := parsePage(t, pageAt(busy(), ""))
	if find(root, func(n *html.Node) bool { return n.Data == "html" && attribute(n, "lang") == "en" }) == nil {
		t.Error("the page has no language")
	}
	if title := find(root, func(n *html.Node) bool { return n.Data == "title" }); title == nil || textOf(title) != "not ready, generation 4 · holdfast" {
		t.Error("the title does not say how things are")
	}
	ids := map[string]bool{}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if id := attribute(n, "id"); id != "" {
			if ids[id] {
				t.Errorf("two elements are %q", id)
			}
			ids[id] = true
		}
		switch n.Data {
		case "section":
			if by := attribute(n, "aria-labelledby"); by == "" && attribute(n, "id") == "" {
				t.Error("a section has no name")
			}
		case "table":
			if find(n, func(n *html.Node) bool { return n.Data == "caption" }) == nil {
				t.Error("a table has no caption")
			}
		case "th":
			if attribute(n, "scope") == "" {
				t.Error("a heading says not what it is the heading of")
			}
		case "meter":
			if attribute(n, "aria-label") == "" {
				t.Error("a gauge has no name")
			}
		}
	}
	for n := range root.Descendants() {
		if by := attribute(n, "aria-labelledby"); by != "" && !ids[by] {
			t.Errorf("labelled by %q, which is not there", by)
		}
	}
	figure := find(root, func(n *html.Node) bool { return n.Data == "svg" && attribute(n, "role") == "img" })
	if label := attribute(figure, "aria-label"); !strings.Contains(label, "Generation 5: starting for 1.0s, proving for 3.0s.") {
		t.Errorf("the timeline says in words: %s", label)
	}
}

// TestPageIsClosed: it loads nothing, and runs and styles with nothing but what is embedded.
func TestPageIsClosed(t *testing.T) {
	w := get(t, busy(), "GET", "/statusz", browser)
	policy := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "connect-src 'self'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy lacks %s: %s", want, policy)
		}
	}
	for n := range parsePage(t, w.Body.String()).Descendants() {
		for _, a := range n.Attr {
			local := strings.HasPrefix(a.Val, "?") || strings.HasPrefix(a.Val, "statusz") || a.Val == "metrics" || a.Val == "readyz?verbose" || a.Val == "data:," || a.Val == ""
			if (a.Key == "src" || a.Key == "href") && !local || a.Key == "style" || strings.HasPrefix(a.Key, "on") {
				t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
			}
		}
		if n.Type == html.ElementNode && (n.Data == "script" || n.Data == "style") {
			sum := sha256.Sum256([]byte(n.FirstChild.Data))
			if hash := base64.StdEncoding.EncodeToString(sum[:]); !strings.Contains(policy, hash) {
				t.Errorf("the policy does not allow the page's own %s", n.Data)
			}
		}
	}
}

// TestPageEscapes: what a child says of itself is text, wherever it stands.
func TestPageEscapes(t *testing.T) {
	const evil = `</script><script>alert(1)</script><img src=x onerror="alert(2)">"'`
	src := busy()
	s := src.s
	s.Version, s.Command, s.Warnings, s.ConfigHash, s.Watch = evil, []string{evil}, []string{evil}, evil, []string{evil}
	s.Ready.Handoff = evil
	s.Generations[0].Detail, s.Generations[0].Exit, s.Generations[0].Trigger, s.Generations[0].ConfigHash = evil, evil, evil, evil
	s.Ports[0].Port, s.Ports[0].Name = evil, evil
	s.Recent[0].Reason, s.Recent[0].Trigger = evil, evil
	root := parsePage(t, get(t, src, "GET", "/", browser).Body.String())
	scripts := 0
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && n.Data == "script" {
			scripts++
		}
		if n.Type == html.ElementNode && n.Data == "img" {
			t.Error("an image of the child's is in the page")
		}
	}
	if scripts != 1 {
		t.Errorf("%d scripts", scripts)
	}
}

// TestSpan: the timeline shows what was asked for, or else the last handoff.
func TestSpan(t *testing.T) {
	for _, c := range []struct {
		src          still
		query, label string
	}{
		{busy(), "", "last 20s"}, {busy(), "?span=1h", "last 1h"}, {busy(), "?span=7d", "last 7d"}, {busy(), "?span=9y", "last 20s"}, {busy(), "?span=1m", "last 1m"}, {steady(), "?span=auto", "last 20s"}, {ending(), "", "last 10m"},
	} {
		root := parsePage(t, pageAt(c.src, c.query))
		figure := find(root, func(n *html.Node) bool { return n.Data == "svg" && attribute(n, "role") == "img" })
		if got := attribute(figure, "aria-label"); !strings.Contains(got, c.label) {
			t.Errorf("%q: %s, want the %s", c.query, got, c.label)
		}
	}
}

// pageAt is the page as of the fixtures' instant.
func pageAt(src still, query string) string {
	var b strings.Builder
	WritePage(&b, src.document(), at(), spanOf(httptest.NewRequest("GET", "/"+query, nil)))
	return b.String()
}

// moving is a Source that changes.
type moving struct {
	mu   sync.Mutex
	now  still
	next chan struct{}
}

func (m *moving) Snapshot() *status.Snapshot { m.mu.Lock(); defer m.mu.Unlock(); return m.now.s }
func (m *moving) Queues() []status.Queue     { m.mu.Lock(); defer m.mu.Unlock(); return m.now.queues }
func (m *moving) Next() <-chan struct{}      { m.mu.Lock(); defer m.mu.Unlock(); return m.next }

func (m *moving) become(s still) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = s
	close(m.next)
	m.next = make(chan struct{})
}

// watchEvents returns the data of each event of a stream, until the test ends.
func watchEvents(t *testing.T, url string) (<-chan string, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("GET %s: %s, %v", url, resp.Status, resp.Header)
	}
	data := make(chan string)
	go func() {
		defer resp.Body.Close()
		defer close(data)
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				select {
				case data <- text:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return data, cancel
}

func await(t *testing.T, data <-chan string, what string, ok func(string) bool) {
	t.Helper()
	for timeout := time.After(time.Minute); ; {
		select {
		case text, open := <-data:
			if !open {
				t.Fatalf("the stream has ended before: %s", what)
			}
			if ok(text) {
				return
			}
		case <-timeout:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// TestEvents: a watcher is told of the state at once and of each change, as JSON and as a page.
func TestEvents(t *testing.T) {
	src := &moving{now: steady(), next: make(chan struct{})}
	server := httptest.NewServer(Handler(src, "v"))
	t.Cleanup(server.Close)
	documents, _ := watchEvents(t, server.URL+"/statusz/events")
	pages, _ := watchEvents(t, server.URL+"/statusz/events?format=html")
	isLive := func(n int) func(string) bool {
		return func(text string) bool {
			var d status.Document
			if err := json.Unmarshal([]byte(text), &d); err != nil {
				t.Fatal(err)
			}
			return d.Live == n && len(d.Queues) > 0
		}
	}
	saysLive := func(n int) func(string) bool {
		return func(text string) bool {
			return strings.Contains(textOf(byID(parsePage(t, text), "live")), fmt.Sprintf("Generation %d has been live", n))
		}
	}
	await(t, documents, "the state at the beginning", isLive(1))
	await(t, pages, "the page at the beginning", saysLive(1))
	src.become(busy())
	await(t, documents, "the change", isLive(4))
	await(t, pages, "the changed page", saysLive(4))
}

// TestEventsAreBounded: a crowd of watchers gets no more than its places, and places of those who leave are free again.
func TestEventsAreBounded(t *testing.T) {
	server := httptest.NewServer(Handler(&moving{now: steady(), next: make(chan struct{})}, "v"))
	t.Cleanup(server.Close)
	var leave context.CancelFunc
	for range maxWatchers {
		_, leave = watchEvents(t, server.URL+"/statusz/events")
	}
	ask := func() int {
		r, _ := http.NewRequestWithContext(t.Context(), "HEAD", server.URL+"/statusz/events", nil)
		r.Method = "GET"
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		resp, err := http.DefaultClient.Do(r.WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if code := ask(); code != http.StatusServiceUnavailable {
		t.Errorf("watcher %d: %d", maxWatchers+1, code)
	}
	leave()
	for end := time.Now().Add(time.Minute); ask() != http.StatusOK; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the place of a watcher that has left is not free")
		}
	}
	if w := get(t, steady(), "GET", "/statusz/events?format=xml", ""); w.Code != 400 {
		t.Errorf("format=xml: %d", w.Code)
	}
}
