# make help lists the targets.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# The entry point is explained in reaper/early/entry.go.
ENTRY    = -E holdfast_entry -checklinkname=0
LDFLAGS  = -s -w $(ENTRY) -X main.version=$(VERSION)
STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
# Static, and the same bytes from the same source.
BUILD    = CGO_ENABLED=0 go build -tags holdfast_entry -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

.PHONY: help build demo test unit fuzz e2e e2e-page init lint vuln docs chaos soak servers bench bench-quick bench-full release-check arm64 clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/holdfast, static and stripped
	$(BUILD) -o bin/holdfast .

.PHONY: image deploy-check e2e-images e2e-kubernetes

# The image is as old as the last commit, and of it.
IMAGE   ?= localhost/holdfast:$(VERSION)
EPOCH   ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)
DIST    ?= $(CURDIR)/dist
image: ## build dist/holdfast.tar, an image for amd64 and arm64, without a Docker engine: the same bytes from the same source
	for arch in amd64 arm64; do GOOS=linux GOARCH=$$arch $(BUILD) -o $(DIST)/$$arch/holdfast . || exit 1; done
	cd deploy/image && SOURCE_DATE_EPOCH=$(EPOCH) go run . -f $(CURDIR)/Dockerfile -from 'build=$(DIST)/{arch}' -arch amd64,arm64 \
		-arg VERSION=$(VERSION) -arg REVISION=$(REVISION) -t $(IMAGE) -o $(DIST)/holdfast.tar

demo: build ## the main job, live: load, handoffs, one of them to a broken version; exit code 0 only if nothing was lost
	bin/holdfast demo

test: unit fuzz e2e deploy-check ## all tests; installs the servers that they need

# The machine has no goroutine to race: its exploration is the same without the detector, and twenty times as fast. The
# held ports' tests in other network namespaces are long, and run without it, too.
PURE     = holdfast/handoff/machine
PORT     = holdfast/handoff/port
unit: ## the packages' own tests, under the race detector
	go test -timeout 20m $(TESTFLAGS) $(PURE)
	go test -race -timeout 20m $(TESTFLAGS) $$(go list . ./docs/... ./reaper/... ./handoff/... ./probes/... ./e2e/freeport/... ./e2e/load/... ./e2e/demo/... ./e2e/matrix/... | grep -vxe $(PURE) -e $(PORT))
	go test -race -short -timeout 20m $(TESTFLAGS) $(PORT)
	go test -timeout 15m $(TESTFLAGS) $(PORT)
	cd e2e/bench && go test $(TESTFLAGS) ./...

FUZZTIME ?= 2000x
fuzz: ## every fuzz target for FUZZTIME (2000x: so many inputs; or 1m), after the inputs that are in testdata; minutes find more
	.ci/fuzz $(FUZZTIME)

e2e: ## black box: the real binary as a real PID 1, real servers, real load
	e2e/deps.sh
	go test -count=1 -timeout 20m $(TESTFLAGS) ./e2e ./e2e/harness/... ./e2e/servers/...
	go test -count=1 -short -timeout 20m -parallel 6 $(TESTFLAGS) ./e2e/init
	go test -count=1 -timeout 20m $(TESTFLAGS) ./e2e/chaos

e2e-page: ## the status page in a real browser, Debian's chromium; HOLDFAST_PAGE_SHOTS=DIR keeps what is seen
	e2e/deps.sh chromium
	cd e2e/page && go test -count=1 -timeout 20m $(TESTFLAGS) .

deploy-check: ## the image, and the manifests, alerts and dashboard of deploy/: against a real Prometheus and a real holdfast
	e2e/deps.sh prometheus runc
	cd deploy/image && go test -count=1 $(TESTFLAGS) .
	cd deploy/check && go test -count=1 $(TESTFLAGS) .

# Tags of one repository: IMAGE itself is holdfast, IMAGE-nginx, -node and -gunicorn are servers.
E2E_IMAGE ?= localhost/holdfast:e2e
e2e-images: ## build the images that make e2e-kubernetes runs, dist/e2e/*.tar, from Debian's packages (root; load them into the cluster)
	$(MAKE) image IMAGE=$(E2E_IMAGE)
	mkdir -p $(DIST)/e2e && cp $(DIST)/holdfast.tar $(DIST)/e2e/holdfast.tar
	e2e/deps.sh mmdebstrap
	[ -s $(DIST)/e2e/root.tar.gz ] || { SOURCE_DATE_EPOCH=0 mmdebstrap --quiet --variant=essential --include=nginx-light,nodejs,gunicorn,procps \
		bookworm $(DIST)/e2e/.root.tar.gz && mv $(DIST)/e2e/.root.tar.gz $(DIST)/e2e/root.tar.gz; }
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o $(DIST)/e2e/loader ./e2e/kubernetes/loader
	cd deploy/image && go build -o $(DIST)/e2e/image . && cd $(CURDIR) && \
		set -- -base $(DIST)/e2e/root.tar.gz -from holdfast=$(DIST)/{arch} -from loader=$(DIST)/e2e -arch amd64 && \
		$(DIST)/e2e/image "$$@" -f e2e/kubernetes/nginx.Dockerfile -t $(E2E_IMAGE)-nginx -o $(DIST)/e2e/nginx.tar && \
		$(DIST)/e2e/image "$$@" -context deploy/examples/node -f deploy/examples/node/Dockerfile -t $(E2E_IMAGE)-node -o $(DIST)/e2e/node.tar && \
		$(DIST)/e2e/image "$$@" -context deploy/examples/gunicorn -f deploy/examples/gunicorn/Dockerfile -t $(E2E_IMAGE)-gunicorn -o $(DIST)/e2e/gunicorn.tar

e2e-kubernetes: ## on a real cluster: KUBECONFIG=… IMAGE=…, with the images of make e2e-images in its reach (10 minutes)
	HOLDFAST_E2E_IMAGE=$(if $(filter file,$(origin IMAGE)),$(E2E_IMAGE),$(IMAGE)) HOLDFAST_E2E_RESULTS=$(RESULTS) go test -count=1 -timeout 60m $(TESTFLAGS) ./e2e/kubernetes

init: ## holdfast beside tini, dumb-init and catatonit, case by case: writes docs/init.md (minutes)
	e2e/deps.sh tini dumb-init catatonit python3 unshare
	HOLDFAST_INIT_DOC=$(CURDIR)/docs/init.md go test -count=1 -timeout 30m -parallel 6 ./e2e/init

lint: ## gofmt, vet and staticcheck, for amd64 and arm64
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	go vet ./...
	GOARCH=arm64 go vet ./...
	go vet -tags holdfast_entry ./reaper/early
	GOARCH=arm64 go vet -tags holdfast_entry ./reaper/early
	cd e2e/servers/goactivation && go vet .
	cd e2e/servers/gofasthttp && go vet .
	cd e2e/grpc && go vet .
	cd e2e/page && go vet .
	cd e2e/bench && go vet ./...
	cd e2e/bench/peers/tableflip && go vet .

	cd deploy/image && go vet . && $(STATICCHECK) .
	cd deploy/check && go vet . && $(STATICCHECK) .
	$(STATICCHECK) ./...
	GOARCH=arm64 $(BUILD) -o /dev/null .

vuln: ## known vulnerabilities that the code can reach (govulncheck); says so where their database cannot be reached
	.ci/vuln

HANDOFFS ?= 500
chaos: ## disturb HANDOFFS handoffs (500) in every way there is, with SEED (another each time); 500 write docs/reliability.md (10 minutes)
	e2e/deps.sh gunicorn nginx node ip setpriv
	go test -count=1 -timeout 60m -v -run TestChaos ./e2e/chaos -args -handoffs $(HANDOFFS) -record $(CURDIR)/docs/reliability.json \
		-seed $(or $(SEED),$$(od -An -N4 -tu4 /dev/urandom | tr -d ' '))

SOAKED ?= 2000
soak: ## SOAKED handoffs (2,000) in a row, in which nothing may grow; 2,000 write docs/reliability.md (10 minutes)
	e2e/deps.sh ip setpriv
	go test -count=1 -timeout 60m -v -run TestSoak ./e2e/chaos -args -handoffs $(SOAKED) -record $(CURDIR)/docs/reliability.json

docs: ## write docs/flags.md and the man page anew, from the table of the flags
	go test -count=1 -run TestDocuments . -update

servers: ## hand over some fifty real servers under load, restart them for comparison: writes docs/servers.md (15 minutes)
	go run ./e2e/matrix

BENCHDEPS = nginx haproxy gunicorn puma supervisord tini dumb-init catatonit s6 start_server gcc libc wrk node npm pm2 unshare
# Each at the end of its time ends with what it has started.
BENCH = e2e/deps.sh $(BENCHDEPS) && cd e2e/bench && go build -o ../../bin/bench . && exec timeout -k 20s

bench: build ## everything measured beside its peers, in at most 15 minutes: writes docs/benchmarks.md (alone on the machine)
	$(BENCH) 890s ../../bin/bench

bench-quick: build ## the same in at most 2 minutes: fewer of everything; writes to bin/benchmarks
	$(BENCH) 115s ../../bin/bench -size quick -out ../../bin/benchmarks

bench-full: build ## the same with 100 handoffs in every cell (hours)
	$(BENCH) 24h ../../bin/bench -size full

GORELEASER = github.com/goreleaser/goreleaser/v2@v2.16.0
CYCLONEDX  = github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
release-check: ## goreleaser's configuration, and a whole release into dist/ that is not published
	mkdir -p bin && GOBIN=$(CURDIR)/bin go install $(CYCLONEDX)
	go run $(GORELEASER) check
	PATH=$(CURDIR)/bin:$$PATH go run $(GORELEASER) release --snapshot --clean --skip=publish
	cd dist && sha256sum --check --strict checksums.txt

arm64: ## the tests of the system calls on Debian's arm64 kernel, emulated (minutes; apt as root)
	e2e/arm64/run.sh

clean: ## remove what was built
	rm -rf bin dist dist-completion
