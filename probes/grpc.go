package probes

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Next is what a Source may also have, so that a gRPC client that watches is told at once: a channel that is closed when
// there is another snapshot than the one that Snapshot gives after the call.
type Next interface {
	Next() <-chan struct{}
}

// health answers the gRPC health protocol (grpc.health.v1.Health: Check and Watch) for the services "ready" and "live";
// "" is "ready". As with the paths, checks may be excluded: "ready?exclude=handoff".
//
// net/http speaks the HTTP/2 of it, without TLS on the same port; what gRPC adds (gRPC over HTTP2, PROTOCOL-HTTP2.md) is
// five bytes before each message and two trailers, and its messages have one field each.
type health struct {
	src   Source
	slots chan struct{} // of those who watch
}

// The bounds of what one client may ask for, and of how many may watch.
const (
	maxGRPCMessage = 4 << 10
	maxWatches     = 16
	lookAgainIn    = 5 * time.Second // for what makes no snapshot: a loop that hangs
	watchWriteIn   = 10 * time.Second
)

// servingStatus is grpc.health.v1.HealthCheckResponse.ServingStatus.
type servingStatus uint64

const (
	serving        servingStatus = 1
	notServing     servingStatus = 2
	serviceUnknown servingStatus = 3
)

// grpcStatus is a code of gRPC (statuscodes.md) with its message.
type grpcStatus struct {
	code    int
	message string
}

func (s grpcStatus) Error() string { return s.message }

const (
	codeInvalid       = 3
	codeNotFound      = 5
	codeExhausted     = 8
	codeUnimplemented = 12
	codeUnavailable   = 14
)

func (h health) register(mux *http.ServeMux) {
	const path = "POST /grpc.health.v1.Health/"
	mux.Handle(path+"Check", grpcCall(h.check))
	mux.Handle(path+"Watch", grpcCall(h.watch))
	mux.Handle(path, grpcCall(func(*grpcStream, string) error {
		return grpcStatus{codeUnimplemented, "want Check or Watch"}
	}))
}

func (h health) check(s *grpcStream, service string) error {
	now := h.status(service)
	if now == serviceUnknown {
		return grpcStatus{codeNotFound, "no such service: want ready or live, or nothing for ready"}
	}
	return s.send(now)
}

// watch sends the status, and sends it again whenever it is another.
func (h health) watch(s *grpcStream, service string) error {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		return grpcStatus{codeExhausted, "too many watch already"}
	}
	tick := time.NewTicker(lookAgainIn)
	defer tick.Stop()
	var last servingStatus
	for {
		next := h.next() // before the look, or a change in between would be missed
		if now := h.status(service); now != last {
			if err := s.send(now); err != nil {
				return err
			}
			last = now
		}
		select {
		case <-next:
		case <-tick.C:
		case <-s.ctx.Done():
			return grpcStatus{codeUnavailable, "holdfast is ending"}
		}
	}
}

func (h health) next() <-chan struct{} {
	if n, ok := h.src.(Next); ok {
		return n.Next()
	}
	return nil
}

func (h health) status(service string) servingStatus {
	name, query, _ := strings.Cut(service, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return serviceUnknown
	}
	var e endpoint
	switch name {
	case "", "ready":
		e = readyz(h.src)
	case "live":
		e = livez(h.src)
	default:
		return serviceUnknown
	}
	if _, ok := e.report(e.checks(), values["exclude"]); !ok {
		return notServing
	}
	return serving
}

// grpcStream is the answer to one call.
type grpcStream struct {
	ctx context.Context
	w   http.ResponseWriter
}

// grpcCall reads the one message of a call, the service's name, and ends it with the status that is returned.
func grpcCall(call func(s *grpcStream, service string) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			text(w, http.StatusUnsupportedMediaType, "this is for gRPC: want HTTP/2 and Content-Type application/grpc\n")
			return
		}
		// The server's limits are for a request that is read and answered at once; here each message has its own.
		control := http.NewResponseController(w)
		_ = control.SetWriteDeadline(time.Time{})
		w.Header().Set("Content-Type", "application/grpc")
		s := &grpcStream{ctx: r.Context(), w: w}
		service, err := readService(r.Body)
		if err == nil {
			err = call(s, service)
		}
		var status grpcStatus
		if err != nil && !errors.As(err, &status) {
			status = grpcStatus{codeUnavailable, err.Error()}
		}
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", strconv.Itoa(status.code))
		if status.message != "" {
			w.Header().Set(http.TrailerPrefix+"Grpc-Message", status.message)
		}
	})
}

// send writes a HealthCheckResponse.
func (s *grpcStream) send(v servingStatus) error {
	message := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(v))
	frame := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	control := http.NewResponseController(s.w)
	_ = control.SetWriteDeadline(time.Now().Add(watchWriteIn))
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	if _, err := s.w.Write(frame); err != nil {
		return err
	}
	return control.Flush()
}

// readService reads a HealthCheckRequest.
func readService(body io.Reader) (string, error) {
	var head [5]byte
	if _, err := io.ReadFull(body, head[:]); err != nil {
		return "", grpcStatus{codeInvalid, "no message"}
	}
	length := binary.BigEndian.Uint32(head[1:])
	switch {
	case head[0] != 0:
		return "", grpcStatus{codeUnimplemented, "compressed messages are not known here"}
	case length > maxGRPCMessage:
		return "", grpcStatus{codeExhausted, "the message is too long"}
	}
	message := make([]byte, length)
	if _, err := io.ReadFull(body, message); err != nil {
		return "", grpcStatus{codeInvalid, "the message is cut off"}
	}
	return parseService(message)
}

// parseService takes the last of several values, and skips what it does not know, as protobuf has it.
func parseService(message []byte) (service string, err error) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return "", grpcStatus{codeInvalid, "the message is malformed"}
		}
		message = message[n:]
		if number == 1 && kind == protowire.BytesType {
			service, n = protowire.ConsumeString(message)
		} else {
			n = protowire.ConsumeFieldValue(number, kind, message)
		}
		if n < 0 {
			return "", grpcStatus{codeInvalid, "the message is malformed"}
		}
		message = message[n:]
	}
	return service, nil
}
