// Command gohttp is net/http as its documentation shows it: without a word about its end, or, with -shutdown, with
// Server.Shutdown on SIGTERM.
//
//	gohttp [-shutdown] ADDRESS
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	shutdown := flag.Bool("shutdown", false, "finish what has been accepted on SIGTERM")
	flag.Parse()
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "generation=%s\n", os.Getenv("HOLDFAST_GENERATION"))
	})
	server := &http.Server{Addr: flag.Arg(0)}
	if !*shutdown {
		log.Fatal(server.ListenAndServe())
	}
	ended := make(chan struct{})
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	context.AfterFunc(ctx, func() {
		defer close(ended)
		if err := server.Shutdown(context.Background()); err != nil {
			log.Print(err)
		}
	})
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	<-ended
}
