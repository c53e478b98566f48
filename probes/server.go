package probes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// limits keep a slow, idle or numerous crowd of clients from costing PID 1 more than a little memory.
type limits struct {
	header, read, write, idle, shutdown time.Duration
	headerBytes, conns, streams         int
}

func defaultLimits() limits {
	return limits{
		header: 5 * time.Second, read: 5 * time.Second, write: 10 * time.Second, idle: 30 * time.Second,
		shutdown:    time.Second,
		headerBytes: 8 << 10, conns: 64, streams: 16,
	}
}

// Listen opens the probe address. It is apart from Serve so that an address in use ends the start with a clear line
// instead of leaving a pod that never becomes ready.
func Listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("open probe address %q: %w (choose another with --probe-addr)", addr, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open probe address %q: %w", addr, err)
	}
	return l, nil
}

// Serve answers on l until ctx ends, then lets the requests under way finish for a second and returns nil. It closes l.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	return serve(ctx, l, h, log, defaultLimits())
}

func serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger, lim limits) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true) // for gRPC
	srv := &http.Server{
		Handler:   h,
		Protocols: &protocols,
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: lim.streams, SendPingTimeout: lim.idle, PingTimeout: lim.write},
		// Who watches is told that this ends.
		BaseContext: func(net.Listener) context.Context { return ctx },

		ReadHeaderTimeout: lim.header,
		ReadTimeout:       lim.read,
		WriteTimeout:      lim.write,
		IdleTimeout:       lim.idle,
		MaxHeaderBytes:    lim.headerBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		shut(srv, lim.shutdown)
	})
	err := srv.Serve(&limitListener{Listener: l, slots: make(chan struct{}, lim.conns)})
	if stop() {
		return fmt.Errorf("serve probes on %s: %w", l.Addr(), err)
	}
	<-ended
	return nil
}

func shut(srv *http.Server, patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if srv.Shutdown(ctx) != nil {
		srv.Close()
	}
}

// limitListener closes whoever comes while all slots are taken. Leaving them in the accept queue instead would let a
// crowd keep the kubelet's probe waiting behind it until that times out, with nothing to see on either side.
type limitListener struct {
	net.Listener
	slots chan struct{}
}

func (l *limitListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &limitConn{Conn: conn, free: sync.OnceFunc(func() { <-l.slots })}, nil
		default:
			conn.Close()
		}
	}
}

type limitConn struct {
	net.Conn
	free func()
}

func (c *limitConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}
