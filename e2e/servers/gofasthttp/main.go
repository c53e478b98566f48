// Command gofasthttp is fasthttp with its graceful shutdown on SIGTERM. It is a module of its own, so that holdfast does
// not depend on fasthttp.
//
//	gofasthttp ADDRESS
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/valyala/fasthttp"
)

func main() {
	server := &fasthttp.Server{CloseOnShutdown: true, Handler: func(c *fasthttp.RequestCtx) {
		fmt.Fprintf(c, "generation=%s\n", os.Getenv("HOLDFAST_GENERATION"))
	}}
	ended := make(chan struct{})
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	context.AfterFunc(ctx, func() {
		defer close(ended)
		if err := server.Shutdown(); err != nil {
			log.Print(err)
		}
	})
	if err := server.ListenAndServe(os.Args[1]); err != nil {
		log.Fatal(err)
	}
	<-ended
}
