# Targets are described by `make help`. Nothing here needs CUDA except the cuda-* targets.

GO ?= go
BIN := bin/unirestorer
TINY := build/tiny
GOLDENS := testdata/goldens
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 20s

.PHONY: help build test short race bench fmt lint verify demo fuzz clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

build: ## build bin/unirestorer without cgo
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/unirestorer

test: ## run all tests
	$(GO) test ./...

short: ## run the tests that take no more than seconds
	$(GO) test -short ./...

race: ## run the concurrent parts under the race detector
	$(GO) test -short -race ./graph/... ./weights/... ./runtime/backend/... ./runtime/cpu/... ./runtime/experts/... ./runtime/imaging/... ./runtime/restore/... ./runtime/router/...

bench: ## run the benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

fmt: ## format the code
	gofmt -w $$($(GO) list -f '{{.Dir}}' ./...)

lint: ## check format, vet and staticcheck
	@test -z "$$(gofmt -l . | tee /dev/stderr)"
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

verify: build ## compare every network with the golden cases
	$(BIN) verify $(GOLDENS)/* --failed

demo: build ## convert the tiny test checkpoint and restore an image with it
	$(BIN) convert $(GOLDENS)/unirestorer_tiny/model.pth -o $(TINY) --hints $(GOLDENS)/unirestorer_tiny/config.json --overwrite --quiet
	$(BIN) restore $(GOLDENS)/unirestorer_tiny/img3.png -o build/restored.png --model $(TINY) --compare

fuzz: ## run every fuzz test for FUZZTIME
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg; \
	  done; done

clean: ## remove what was built
	rm -rf bin build
