module holdfast/e2e/bench/peers/starter

go 1.26.8

require (
	github.com/jessevdk/go-flags v1.6.1 // indirect
	github.com/lestrrat/go-server-starter v0.0.0-20180220115249-6ac0b358431b // indirect
	golang.org/x/sys v0.21.0 // indirect
)

tool github.com/lestrrat/go-server-starter/cmd/start_server
