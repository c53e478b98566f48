package probes

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/testutil"
	model "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	rules "github.com/prometheus/common/model"

	"holdfast/handoff/status"
)

// The golden exposition is all that the busiest fixture says; {GOVERSION} stands for the one that runs the test.
func TestMetrics(t *testing.T) {
	const path = "testdata/busy.metrics"
	got := collect(busy(), "v1.2.3").text(nil)
	if *update {
		text := bytes.ReplaceAll(got, []byte(runtime.Version()), []byte("{GOVERSION}"))
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want = bytes.ReplaceAll(want, []byte("{GOVERSION}"), []byte(runtime.Version()))
	if !bytes.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// gathered is what Prometheus' own library reads of an exposition.
func gathered(e *exposition) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*model.MetricFamily, error) {
		parser := expfmt.NewTextParser(rules.LegacyValidation)
		read, err := parser.TextToMetricFamilies(bytes.NewReader(e.text(nil)))
		families := slices.Collect(maps.Values(read))
		slices.SortFunc(families, func(a, b *model.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
		return families, err
	})
}

// Prometheus' own library reads it, and would have written the same.
func TestMetricsAreAsTheLibraryWritesThem(t *testing.T) {
	odd := busy()
	odd.s.Ports[2].Port = "unix:///run/\"\\\n/app.sock"
	odd.s.Counters.PhaseSeconds = map[status.Phase]status.Histogram{status.PhaseDrain: status.Histogram{}.Observe(1.0 / 3).Observe(1e-9).Observe(1e9)}
	for name, src := range map[string]still{"fresh": fresh(), "steady": steady(), "busy": busy(), "ending": ending(), "odd": odd} {
		e := collect(src, "v1.2.3")
		families, err := gathered(e).Gather()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var want bytes.Buffer
		for _, f := range families {
			if _, err := expfmt.MetricFamilyToText(&want, f); err != nil {
				t.Fatal(err)
			}
		}
		if got := e.text(nil); string(got) != want.String() {
			t.Errorf("%s: got:\n%s\nwant:\n%s", name, got, &want)
		}
	}
}

// What alerts look at, in the snapshots where it differs from the busy one.
func TestMetricsOfAlerts(t *testing.T) {
	abandoned := ending()
	abandoned.s.Last.Result = status.Abandoned
	current := busy()
	current.s.ConfigLatest = current.s.ConfigHash
	names := []string{"holdfast_ready", "holdfast_generation", "holdfast_handoff_in_progress", "holdfast_last_handoff_successful",
		"holdfast_config_current", "holdfast_config_rejected"}
	const absent = -1
	for name, c := range map[string]struct {
		src                                   still
		ready, generation, running, succeeded int
		current, rejected                     int
	}{
		"fresh":     {fresh(), 0, 1, 0, 1, absent, absent},
		"steady":    {steady(), 1, 1, 0, 1, absent, absent},
		"busy":      {busy(), 0, 4, 1, 1, 0, 0},
		"current":   {current, 0, 4, 1, 1, 1, 0},
		"ending":    {ending(), 0, 0, 0, 0, 0, 1},
		"abandoned": {abandoned, 0, 0, 0, 1, 0, 1},
	} {
		for i, want := range []int{c.ready, c.generation, c.running, c.succeeded, c.current, c.rejected} {
			if want == absent {
				if text := get(t, c.src, "GET", "/metrics?name[]="+names[i], "").Body.String(); strings.Contains(text, names[i]) {
					t.Errorf("%s: nothing is watched: %s", name, text)
				}
				continue
			}
			text := get(t, c.src, "GET", "/metrics?name[]="+names[i], "").Body.String()
			if !strings.HasSuffix(text, fmt.Sprintf("\n%s %d\n", names[i], want)) {
				t.Errorf("%s: want %d in %s", name, want, text)
			}
		}
	}
}

func TestMetricsAreLintFree(t *testing.T) {
	for name, src := range map[string]still{"fresh": fresh(), "busy": busy()} {
		e := collect(src, "v1.2.3")
		process(e)
		problems, err := testutil.GatherAndLint(gathered(e))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", name, p.Metric, p.Text)
		}
	}
}

// The series of one pod are paid for by whoever stores them.
func TestMetricsStayFew(t *testing.T) {
	n, err := testutil.GatherAndCount(gathered(collect(busy(), "v1.2.3")))
	if n > 60 || err != nil {
		t.Errorf("%d metrics, %v", n, err)
	}
}

// What it says of this process is what the library says, but for what has changed in between.
func TestProcessMetrics(t *testing.T) {
	var e exposition
	process(&e)
	ours, err := gathered(&e).Gather()
	if err != nil {
		t.Fatal(err)
	}
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	theirs, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	value := func(f *model.MetricFamily) float64 {
		return f.Metric[0].GetGauge().GetValue() + f.Metric[0].GetCounter().GetValue()
	}
	for _, want := range theirs {
		i := slices.IndexFunc(ours, func(f *model.MetricFamily) bool { return f.GetName() == want.GetName() })
		if i < 0 {
			if !strings.HasPrefix(want.GetName(), "process_network_") && want.GetName() != "process_virtual_memory_max_bytes" {
				t.Errorf("%s is missing", want.GetName())
			}
			continue
		}
		got := ours[i]
		if got.GetHelp() != want.GetHelp() || got.GetType() != want.GetType() {
			t.Errorf("%s is %v, %q; want %v, %q", got.GetName(), got.GetType(), got.GetHelp(), want.GetType(), want.GetHelp())
		}
		if g, w := value(got), value(want); g < w/2-10 || g > 2*w+10 {
			t.Errorf("%s is %v, want about %v", got.GetName(), g, w)
		}
	}
}

func TestMetricsSurviveAnyBytes(t *testing.T) {
	src := busy()
	src.s.Ports[2].Port = "unix:///run/\xff"
	src.s.ConfigHash = "\xfe"
	src.s.Counters.SignalsForwarded = map[string]uint64{"\xff": 1}
	src.s.Counters.PhaseSeconds = map[status.Phase]status.Histogram{status.PhaseDrain: {Count: 1, Sum: 1, Buckets: []uint64{1}}}
	w := get(t, src, "GET", "/metrics", "")
	if w.Code != 200 || !strings.Contains(w.Body.String(), `port="unix:///run/?"`) {
		t.Errorf("got %d\n%s", w.Code, w.Body)
	}
}

func TestMetricsEndpoint(t *testing.T) {
	w := get(t, steady(), "GET", "/metrics", "")
	for _, want := range []string{"\nholdfast_generation 1\n", "\nholdfast_ready 1\n", "\nprocess_resident_memory_bytes ", "\ngo_goroutines "} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%q is missing in\n%s", want, w.Body)
		}
	}
	if strings.Contains(w.Body.String(), "\ngo_gc") {
		t.Error("Go's own metrics are there")
	}
}

func BenchmarkScrape(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		e := collect(busy(), "v1.2.3")
		process(e)
		_ = e.text(nil)
	}
}
