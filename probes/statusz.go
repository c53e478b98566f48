package probes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/handoff/status"
)

// statusz answers with a status.Document as JSON, the table for people, or a page, as ?format= or the Accept header wants
// it. Whoever says nothing is taken for a program.
func statusz(src Source) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		format := r.URL.Query().Get("format")
		if format == "" {
			format = preferred(r.Header.Get("Accept"))
		}
		switch format {
		case "json":
			statusJSON(w, src)
		case "text":
			statusText(w, src)
		case "html":
			statusPage(w, r, src)
		default:
			text(w, http.StatusBadRequest, fmt.Sprintf("no format %q here: /statusz has json, text, html\n", format))
		}
	})
}

// documentOf reads everything there is now.
func documentOf(src Source) status.Document {
	d := status.Document{Snapshot: src.Snapshot(), Queues: src.Queues()}
	if c, ok := src.(Counter); ok {
		d.Connections = c.Connections()
	}
	return d
}

func statusJSON(w http.ResponseWriter, src Source) {
	body, err := json.MarshalIndent(documentOf(src), "", "  ")
	if err != nil {
		text(w, http.StatusInternalServerError, fmt.Sprintf("encode status: %v\n", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(body, '\n'))
}

func statusText(w http.ResponseWriter, src Source) {
	var b bytes.Buffer
	if err := WriteText(&b, documentOf(src), time.Now()); err != nil {
		text(w, http.StatusInternalServerError, fmt.Sprintf("write status: %v\n", err))
		return
	}
	text(w, http.StatusOK, b.String())
}

// statusPage sends the page, which may load nothing, run nothing but its own script and be framed by nobody.
func statusPage(w http.ResponseWriter, r *http.Request, src Source) {
	var b bytes.Buffer
	if err := WritePage(&b, documentOf(src), time.Now(), spanOf(r)); err != nil {
		text(w, http.StatusInternalServerError, fmt.Sprintf("write status: %v\n", err))
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", contentSecurity())
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Write(b.Bytes())
}

// preferred is "html" or "text" only when the Accept header wants those more than it wants application/json: a program
// that takes anything gets JSON.
func preferred(accept string) string {
	page := quality(accept, "text/html", "application/xhtml+xml")
	plain := quality(accept, "text/plain", "text/*")
	program := quality(accept, "application/json", "application/*", "*/*")
	switch {
	case page > program && page >= plain:
		return "html"
	case plain > program:
		return "text"
	}
	return "json"
}

// quality is the highest q that the header gives to any of the media types, 0 when it names none of them.
func quality(accept string, types ...string) float64 {
	best := 0.0
	for part := range strings.SplitSeq(accept, ",") {
		named, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		q, err := strconv.ParseFloat(params["q"], 64)
		if err != nil {
			q = 1
		}
		for _, t := range types {
			if named == t {
				best = max(best, q)
			}
		}
	}
	return best
}
