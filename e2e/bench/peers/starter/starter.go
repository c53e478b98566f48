// Package starter names the version of lestrrat-go/server-starter that is measured, in a module of its own:
//
//	go build -o start_server github.com/lestrrat-go/server-starter/cmd/start_server
package starter
