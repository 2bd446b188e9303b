# Targets are described by `make help`. Nothing here needs CUDA except the cuda-* targets.

GO ?= go
BIN := bin/unirestorer
GOLDENS := testdata/goldens
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 20s
# CUDA is a folder with CUDA 12.4: bin/nvcc and usr/include. `make toolkit` fetches one.
CUDA ?= build/cuda
CUDAENV = PATH="$(abspath $(CUDA))/bin:$$PATH" CGO_CFLAGS="-O2 -g -I$(abspath $(CUDA))/usr/include"

.PHONY: help build test short race bench fmt lint verify demo fuzz clean toolkit kernels kernels-check kernel-table floors cuda-build cuda-lint cuda-test train-smoke gpu-kit

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

build: ## build bin/unirestorer without cgo
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/unirestorer

test: ## run all tests
	$(GO) test ./...

short: ## run the tests that take no more than seconds
	$(GO) test -short ./...

race: ## run the concurrent parts under the race detector
	$(GO) test -short -race ./graph/... ./weights/... ./runtime/backend/... ./runtime/cpu/... ./runtime/experts/... ./runtime/imaging/... ./runtime/restore/... ./runtime/router/... ./runtime/evaluate/... ./runtime/quality/...

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

demo: build ## restore the sample photo with the built-in model
	$(BIN) restore testdata/photos/rain.png -o build/restored.png --compare

fuzz: ## run every fuzz test for FUZZTIME
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg; \
	  done; done

clean: ## remove what was built
	rm -rf bin build

toolkit: $(CUDA)/bin/nvcc ## fetch CUDA 12.4's compiler and headers into build/cuda, without installing anything

$(CUDA)/bin/nvcc:
	tools/cuda/toolkit.sh $(CUDA)

kernels: toolkit ## rebuild the committed PTX from kernels/*.cu
	$(MAKE) -C kernels NVCC=$(abspath $(CUDA))/bin/nvcc

kernels-check: toolkit ## fail if the committed PTX is not what the sources give
	rm -rf build/ptx
	$(MAKE) -C kernels NVCC=$(abspath $(CUDA))/bin/nvcc PTX=$(abspath build/ptx)
	diff -r kernels/ptx build/ptx

kernel-table: toolkit ## write docs/kernels.md; fails on spills and on missing tensor-core instructions
	$(GO) run ./tools/cuda/kerneltable -ptxas $(CUDA)/bin/ptxas -out docs/kernels.md

floors: toolkit ## write docs/floors.md: what every kernel moves, computes and takes at least
	$(GO) run ./tools/gpukit floors --ptxas $(CUDA)/bin/ptxas --output docs/floors.md

cuda-build: toolkit ## build bin/unirestorer-cuda, which starts on machines without a driver too
	$(CUDAENV) $(GO) build -tags cuda -trimpath -o bin/unirestorer-cuda ./cmd/unirestorer

cuda-lint: toolkit ## vet and staticcheck with the CUDA tags
	$(CUDAENV) $(GO) vet -tags cuda ./...
	$(CUDAENV) $(GO) vet -tags "cuda cudasim" ./runtime/cuda/... ./runtime/gpu/... ./tools/gpukit/...
	$(CUDAENV) $(GO) run $(STATICCHECK) -tags cuda ./runtime/cuda/... ./runtime/gpu/... ./runtime/platform/...

train-smoke: ## run the training recipe for a few steps; needs Debian's python3-torch
	cd tools && /usr/bin/python3 -m train smoke

cuda-test: toolkit ## run the CUDA device, the GPU backend and the GPU kit on the simulated driver, through gorgonia.org/cu
	$(CUDAENV) $(GO) test -short -tags "cuda cudasim" ./runtime/cuda/... ./runtime/gpu/... ./tools/gpukit

gpu-kit: toolkit ## build build/gpukit, which tests and measures on a machine with a GPU but without Go
	$(CUDAENV) $(GO) run ./tools/gpukit build --output build/gpukit
