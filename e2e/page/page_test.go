// Package page looks at the status page as a person does: in a real browser, with a real holdfast behind it. It is a
// module of its own, so that what drives the browser is no dependency of holdfast.
//
// With HOLDFAST_PAGE_SHOTS set to a directory, what is seen is put there as pictures.
package page

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
)

// within bounds every wait; nothing is measured by it.
const within = 2 * time.Minute

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

//go:embed look.js
var look string

// browser is one window of a Chromium with a profile of its own.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu    sync.Mutex
	wrong []string // what the browser complains of: scripts that fail, what the policy forbids, what cannot be loaded
}

func open(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%v: see e2e/deps.sh chromium", err)
		}
		t.Skipf("%v: see e2e/deps.sh chromium", err)
	}
	flags := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.NoFirstRun, chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir())}
	for _, name := range []string{"headless", "disable-gpu", "disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage"} {
		flags = append(flags, chromedp.Flag(name, true))
	}
	flags = append(flags, chromedp.WSURLReadTimeout(within))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, flags...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *cdplog.EventEntryAdded:
			b.wrong = append(b.wrong, fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL))
		case *runtime.EventExceptionThrown:
			b.wrong = append(b.wrong, e.ExceptionDetails.Error())
		}
	})
	b.do("open a window", cdplog.Enable(), chromedp.EmulateViewport(1280, 900))
	return b
}

func (b *browser) do(what string, actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// text is what is read in an element.
func (b *browser) text(selector string) string {
	b.t.Helper()
	var text string
	b.do("read "+selector, chromedp.Evaluate(fmt.Sprintf("document.querySelector(%q)?.textContent ?? ''", selector), &text))
	return strings.Join(strings.Fields(text), " ")
}

// await waits until an element says so.
func (b *browser) await(selector, want string) {
	b.t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		got := b.text(selector)
		if strings.Contains(got, want) {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("%s does not come to say %q:\n%s", selector, want, got)
		}
	}
}

// scheme is light or dark.
func (b *browser) scheme(name string) {
	b.t.Helper()
	b.do("choose "+name, emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}))
}

func (b *browser) picture(name string) {
	b.t.Helper()
	dir := os.Getenv("HOLDFAST_PAGE_SHOTS")
	if dir == "" {
		return
	}
	var png []byte
	b.do("take a picture", chromedp.FullScreenshot(&png, 100))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// fine says what the browser has complained of, and what is hard to see: text with a contrast below WCAG's 4.5, what
// is wider than the window, what the keyboard does not reach.
func (b *browser) fine(when string) {
	b.t.Helper()
	var found []string
	b.do("look at the page", chromedp.Evaluate(look, &found))
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range append(found, b.wrong...) {
		b.t.Errorf("%s: %s", when, w)
	}
	b.wrong = nil
}

// run starts a holdfast whose server does what the orders say, and returns it with a way to change them.
func run(t *testing.T, first string, flags ...string) (h *harness.Holdfast, order func(string)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "orders")
	order = func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	order(first)
	flags = append([]string{"--listen", fmt.Sprintf("web=127.0.0.1:%d", freeport.Choose(t)), "--settle", "100ms"}, flags...)
	h = harness.Run(t, harness.Options{Flags: flags, Command: []string{harness.Naughty(t)}, Env: []string{"NAUGHTY_FILE=" + file}})
	h.WaitLive(1, within)
	return h, order
}

// TestHandoffIsSeen: the page shows a handoff while it happens, without being loaded anew, and afterwards why one failed.
func TestHandoffIsSeen(t *testing.T) {
	b := open(t)
	gate := filepath.Join(t.TempDir(), "open")
	h, order := run(t, "1:ok *:healthy-when="+gate, "--ready", "http:/healthz", "--drain-timeout", "1m")
	b.do("open the page", chromedp.Navigate("http://"+h.ProbeAddr()+"/"), chromedp.Evaluate("window.unchanged = true", nil))
	b.await("#live", "Generation 1 has been live")
	b.await("#ready", "Ready")
	b.await("#updates", "Updated as it happens")
	b.picture("steady-light")
	b.fine("steady")

	h.Signal(syscall.SIGHUP)
	b.await("#handoff", "prove now")
	b.await("#ready", "Not ready")
	b.await("#generations", "proving")
	b.picture("proving-light")
	b.fine("proving")
	touch(t, gate)
	b.await("#live", "Generation 2 has been live")
	b.await("#handoffs", "1 → 2completed")
	b.await("#timeline", "▼ 1 → 2")

	order("*:exit=3")
	h.Signal(syscall.SIGHUP)
	b.await("#notes", "The last handoff, 2 → 3, has failed")
	b.await("#notes", "exit code 3")
	b.await("#notes", "No connection has reached generation 3; generation 2 serves on.")
	b.await("#timeline", "✕ 2 → 3")
	b.await("#ready", "Ready")
	var unchanged bool
	b.do("see whether it is the same page", chromedp.Evaluate("window.unchanged === true", &unchanged))
	if !unchanged {
		t.Error("the page was loaded anew")
	}
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		b.picture("failed-" + scheme)
		b.fine("failed, " + scheme)
	}
	b.do("make it narrow", chromedp.EmulateViewport(380, 800))
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		b.picture("narrow-" + scheme)
		b.fine("narrow, " + scheme)
	}
}

// TestDrainIsSeen: what an old generation still has open is counted while somebody looks.
func TestDrainIsSeen(t *testing.T) {
	b := open(t)
	answer, leave := filepath.Join(t.TempDir(), "answer"), filepath.Join(t.TempDir(), "leave")
	h, _ := run(t, "1:linger-until="+leave+" *:ok", "--drain-timeout", "5m")
	b.do("open the page", chromedp.Navigate("http://"+h.ProbeAddr()+"/statusz?span=10m"))
	b.await("#live", "Generation 1 has been live")
	answered := make(chan error, 1)
	begun := make(chan struct{})
	go func() {
		trace := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(begun) }})
		r, err := http.NewRequestWithContext(trace, "GET", "http://"+h.Status().Ports[0].Port+"/wait?for="+answer, nil)
		if err == nil {
			_, err = http.DefaultTransport.RoundTrip(r)
		}
		answered <- err
	}()
	<-begun
	h.Signal(syscall.SIGHUP)
	b.await("#live", "Generation 2 has been live")
	b.await("#generations", "draining")
	b.await("#generations tbody tr:nth-child(2) td:nth-of-type(6)", "1")
	b.await("#timeline", "generation 1 · draining, 1 connection")
	b.picture("draining-light")
	b.fine("draining")
	touch(t, answer)
	if err := <-answered; err != nil {
		t.Errorf("the request that the old generation had: %v", err)
	}
	touch(t, leave)
	b.await("#generations", "gone")
}

func touch(t *testing.T, file string) {
	t.Helper()
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestWithoutScripts: the page is whole, and can be loaded anew.
func TestWithoutScripts(t *testing.T) {
	b := open(t)
	h, _ := run(t, "*:ok")
	h.Signal(syscall.SIGHUP)
	h.WaitLive(2, within)
	b.do("open the page without scripts", emulation.SetScriptExecutionDisabled(true), chromedp.Navigate("http://"+h.ProbeAddr()+"/statusz"))
	for selector, want := range map[string]string{
		"#ready": "Ready", "#live": "Generation 2 has been live", "#timeline": "generation 2 · live", "#generations": "live", "#ports": "127.0.0.1", "#handoffs": "1 → 2",
		"footer": "Load it anew",
	} {
		b.await(selector, want)
	}
	b.picture("without-scripts")
	h.Signal(syscall.SIGHUP)
	h.WaitLive(3, within)
	b.do("load it anew", chromedp.Click("noscript a"))
	b.await("#live", "Generation 3 has been live")
}

// TestNobodyLooks: a page that has been left costs holdfast nothing any more.
func TestNobodyLooks(t *testing.T) {
	b := open(t)
	h, _ := run(t, "*:ok")
	before := h.FDs()
	b.do("open the page", chromedp.Navigate("http://"+h.ProbeAddr()+"/"))
	b.await("#updates", "Updated as it happens")
	b.do("leave it", chromedp.Navigate("about:blank"))
	h.Eventually("the watcher's connection is closed", within, func() bool { return h.FDs() <= before })
}
