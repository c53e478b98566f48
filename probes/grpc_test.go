package probes

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"testing"
)

// h2 is a client that speaks HTTP/2 without TLS, as gRPC does. See e2e for gRPC's own.
func h2(t *testing.T) *http.Client {
	t.Helper()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func framed(message string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// call returns the answer's message, and gRPC's status with its text.
func call(t *testing.T, c *http.Client, url string, body []byte) (message, code, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc+proto")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/grpc" {
		t.Errorf("%s, %s", resp.Status, resp.Header)
	}
	return string(b), resp.Trailer.Get("Grpc-Status"), resp.Trailer.Get("Grpc-Message")
}

func TestGRPCMessages(t *testing.T) {
	const yes, no = "\x00\x00\x00\x00\x02\x08\x01", "\x00\x00\x00\x00\x02\x08\x02"
	url := "http://" + served(t, Handler(busy(), "v"), patient()).String() + "/grpc.health.v1.Health/"
	for name, c := range map[string]struct {
		method, body       string
		message, code, say string
	}{
		"no service":           {"Check", string(framed("")), no, "0", ""},
		"ready":                {"Check", string(framed("\x0a\x05ready")), no, "0", ""},
		"live":                 {"Check", string(framed("\x0a\x04live")), yes, "0", ""},
		"excluding":            {"Check", string(framed("\x0a\x15ready?exclude=handoff")), yes, "0", ""},
		"unknown":              {"Check", string(framed("\x0a\x03foo")), "", "5", "no such service"},
		"broken query":         {"Check", string(framed("\x0a\x08ready?%z")), "", "5", "no such service"},
		"the last one counts":  {"Check", string(framed("\x0a\x05ready\x0a\x04live")), yes, "0", ""},
		"fields of the future": {"Check", string(framed("\x10\x07\x1a\x01x\x0a\x04live")), yes, "0", ""},
		"no message":           {"Check", "", "", "3", "no message"},
		"cut off":              {"Check", "\x00\x00\x00\x00\x05\x0a", "", "3", "cut off"},
		"malformed":            {"Check", string(framed("\x0a\x7fx")), "", "3", "malformed"},
		"malformed tag":        {"Check", string(framed("\xff")), "", "3", "malformed"},
		"compressed":           {"Check", "\x01\x00\x00\x00\x00", "", "12", "compressed"},
		"too long":             {"Check", "\x00\xff\xff\xff\xff", "", "8", "too long"},
		"too long, watching":   {"Watch", "\x00\xff\xff\xff\xff", "", "8", "too long"},
		"another method":       {"List", string(framed("")), "", "12", "want Check or Watch"},
	} {
		message, code, say := call(t, h2(t), url+c.method, []byte(c.body))
		if message != c.message || code != c.code || !strings.Contains(say, c.say) || (say == "") != (c.say == "") {
			t.Errorf("%s: %q, %s, %q", name, message, code, say)
		}
	}
}

// Those who watch hold a place each; one more is refused, and nobody else is.
func TestGRPCWatchLimit(t *testing.T) {
	url := "http://" + served(t, Handler(steady(), "v"), patient()).String() + "/grpc.health.v1.Health/"
	c := h2(t)
	var open []io.Closer
	for range maxWatches {
		req, err := http.NewRequestWithContext(t.Context(), "POST", url+"Watch", bytes.NewReader(framed("")))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/grpc")
		resp, err := h2(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, resp.Body)
		if _, err := io.ReadFull(resp.Body, make([]byte, 7)); err != nil {
			t.Fatal(err)
		}
	}
	if _, code, say := call(t, c, url+"Watch", framed("")); code != "8" {
		t.Errorf("one more: %s, %s", code, say)
	}
	if message, code, _ := call(t, c, url+"Check", framed("")); message == "" || code != "0" {
		t.Errorf("a check beside them: %q, %s", message, code)
	}
	for _, o := range open {
		o.Close()
	}
}

func FuzzParseService(f *testing.F) {
	f.Add([]byte("\x0a\x05ready"))
	f.Fuzz(func(t *testing.T, message []byte) {
		if service, err := parseService(message); len(service) > len(message) || err != nil && service != "" {
			t.Errorf("%q, %v", service, err)
		}
	})
}
