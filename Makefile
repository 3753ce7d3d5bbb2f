# Tutti: every target does its own set-up; Go 1.26 is all that must be there.
GO      ?= go
BIN     := bin/tutti
TOOLS   := bin/tools
LDFLAGS := -s -w -X main.version=$(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.PHONY: help build demo test check race fuzz e2e sdk bench vuln clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

build: ## build bin/tutti
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/tutti

demo: build ## build and run the demo: server, services, workers and order workflows
	$(BIN) demo

test: check ## static checks, then every unit and simulation test
	$(GO) test -timeout 15m ./...

check: $(TOOLS)/staticcheck $(TOOLS)/gofumpt ## vet, staticcheck, formatting
	$(GO) vet ./...
	$(TOOLS)/staticcheck ./...
	@out=$$($(TOOLS)/gofumpt -l $$(git ls-files '*.go' | grep -v '\.pb\.go$$')); \
	  if [ -n "$$out" ]; then echo "not formatted (run $(TOOLS)/gofumpt -w):"; echo "$$out"; exit 1; fi

race: ## the race detector on what is concurrent
	$(GO) test -race -timeout 20m ./engine/... ./runner/... ./store/... ./connector/... ./api ./client/... ./sim/...

fuzz: ## every fuzz target for FUZZTIME (default 1m) each
	GO=$(GO) internal/devtools/fuzz.sh $(or $(FUZZTIME),1m)

e2e: build ## real processes: kill -9 under load, then the official SDKs
	$(GO) test -timeout 20m -tags e2e ./test/e2e/...
	$(MAKE) sdk

sdk: build ## the official Conductor SDKs of Python, JavaScript and Java, unchanged
	$(GO) test -timeout 25m -tags sdk -count 1 -v ./test/sdk/...

bench: build ## the workloads of bench/README.md
	$(BIN) bench

vuln: ## known vulnerabilities, where the tool and its database can be reached
	-GOBIN=$(CURDIR)/$(TOOLS) $(GO) install golang.org/x/vuln/cmd/govulncheck@v1.9.0 && \
	  $(TOOLS)/govulncheck ./...

$(TOOLS)/staticcheck:
	GOBIN=$(CURDIR)/$(TOOLS) $(GO) install honnef.co/go/tools/cmd/staticcheck@v0.8.2

$(TOOLS)/gofumpt:
	GOBIN=$(CURDIR)/$(TOOLS) $(GO) install mvdan.cc/gofumpt@v0.12.0

clean: ## remove what was built
	rm -rf bin
