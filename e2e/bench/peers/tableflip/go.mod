module holdfast/e2e/bench/peers/tableflip

go 1.26.8

require (
	github.com/cloudflare/tableflip v1.2.3
	holdfast/e2e/bench v0.0.0
)

replace (
	holdfast => ../../../..
	holdfast/e2e/bench => ../..
)
