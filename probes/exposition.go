package probes

import (
	"bytes"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"holdfast/handoff/status"
)

// An exposition is one answer to Prometheus in its text format, version 0.0.4
// (https://prometheus.io/docs/instrumenting/exposition_formats/).
//
// It is written here and not by Prometheus' own library, because that costs every start of holdfast, and every generation's,
// some 2 ms before main begins, and 2 MiB of the binary and of memory, and all that is to be said comes from a snapshot.
// The tests read it with that library, and have its linter and its order.
type exposition struct{ families []*family }

// contentType is that of the format.
const contentType = "text/plain; version=0.0.4; charset=utf-8"

// family is one metric name with its series.
type family struct {
	name, help, kind string
	labels           []string
	order            []int // of the labels, by their names
	series           []series
}

// series are the lines of one combination of label values; a histogram has several.
type series struct {
	values []string
	text   []byte
}

// add begins a family, or goes on with the one of that name.
func (e *exposition) add(name, help string, labels ...string) *family {
	for _, f := range e.families {
		if f.name == name {
			return f
		}
	}
	f := &family{name: name, help: help, labels: labels}
	for i := range labels {
		f.order = append(f.order, i)
	}
	slices.SortFunc(f.order, func(a, b int) int { return strings.Compare(labels[a], labels[b]) })
	e.families = append(e.families, f)
	return f
}

func (f *family) gauge(v float64, labels ...string) {
	f.kind = "gauge"
	f.one(v, labels)
}

func (f *family) counter(n uint64, labels ...string) { f.seconds(float64(n), labels...) }

// seconds is a counter that need not be whole.
func (f *family) seconds(v float64, labels ...string) {
	f.kind = "counter"
	f.one(v, labels)
}

func (f *family) one(v float64, labels []string) {
	values := f.valid(labels)
	f.series = append(f.series, series{values, f.line(nil, "", values, "", v)})
}

// histogram takes one that has never been observed, and so has no buckets yet, for all zeros.
func (f *family) histogram(h status.Histogram, labels ...string) {
	f.kind = "histogram"
	values := f.valid(labels)
	var text []byte
	for i, bound := range status.Bounds() {
		n := uint64(0)
		if i < len(h.Buckets) {
			n = h.Buckets[i]
		}
		text = f.line(text, "_bucket", values, number64(bound), float64(n))
	}
	text = f.line(text, "_bucket", values, "+Inf", float64(h.Count))
	text = f.line(text, "_sum", values, "", h.Sum)
	text = f.line(text, "_count", values, "", float64(h.Count))
	f.series = append(f.series, series{values, text})
}

// line appends "NAME{LABEL="VALUE",…} NUMBER" and the end of the line. le is a histogram's bound.
func (f *family) line(to []byte, suffix string, values []string, le string, v float64) []byte {
	to = append(append(to, f.name...), suffix...)
	separator := byte('{')
	label := func(name, value string) {
		to = append(append(append(to, separator), name...), `="`...)
		to = append(append(to, strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(value)...), '"')
		separator = ','
	}
	for i, at := range f.order {
		label(f.labels[at], values[i])
	}
	if le != "" {
		label("le", le)
	}
	if separator == ',' {
		to = append(to, '}')
	}
	return append(append(append(to, ' '), number64(v)...), '\n')
}

func number64(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// valid puts label values in the order of their labels' names. They may hold any bytes, as the path of a unix socket does.
func (f *family) valid(labels []string) []string {
	values := make([]string, len(labels))
	for i, at := range f.order {
		values[i] = strings.ToValidUTF8(labels[at], "?")
	}
	return values
}

// text is the whole, families and series in order: of those that are named, or all when none is.
func (e *exposition) text(named []string) []byte {
	slices.SortFunc(e.families, func(a, b *family) int { return strings.Compare(a.name, b.name) })
	var b bytes.Buffer
	for _, f := range e.families {
		if len(f.series) == 0 || len(named) > 0 && !slices.Contains(named, f.name) {
			continue
		}
		help := strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(f.help)
		b.WriteString("# HELP " + f.name + " " + help + "\n# TYPE " + f.name + " " + f.kind + "\n")
		slices.SortStableFunc(f.series, func(a, b series) int { return slices.Compare(a.values, b.values) })
		for _, s := range f.series {
			b.Write(s.text)
		}
	}
	return b.Bytes()
}

// serve answers with it; ?name[]=NAME asks for some families alone, as it does of Prometheus' library.
func (e *exposition) serve(w http.ResponseWriter, query url.Values) {
	w.Header().Set("Content-Type", contentType)
	w.Write(e.text(query["name[]"]))
}
