# Targets are described by `make help`. Nothing here needs CUDA except the cuda-* targets.

SHELL := bash
GO ?= go
BIN := bin/unirestorer
GOLDENS := testdata/goldens
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 20s
PYTHON ?= python3
# CUDA is a folder with CUDA 12.4: bin/nvcc and usr/include. `make toolkit` fetches one.
CUDA ?= build/cuda
# The tag cuda needs a C compiler and the project's own header, which stands before any toolkit's.
CUDAENV = CGO_ENABLED=1 CGO_CFLAGS="-O2 -g -I$(abspath runtime/cuda/include) $(MUSLFLAGS) $(CGO_CFLAGS)" CGO_LDFLAGS="$(MUSLLIBS) $(CGO_LDFLAGS)"
# gorgonia.org/cu names /usr/include and /usr/lib, where glibc lies beside a musl-gcc: musl's folders must stand first.
ifneq (,$(findstring musl-gcc,$(CC)))
MUSL := $(shell $(CC) -dumpmachine | sed 's/-gnu/-musl/; s/-pc//')
MUSLFLAGS = -Wno-parentheses -I$(abspath build/musl)
MUSLLIBS = -L/usr/lib/$(MUSL)
cuda-build: build/musl
build/musl: # a copy, because the compiler passes over a folder that it knows as a system folder
	mkdir -p build && cp -r /usr/include/$(MUSL) $@
endif

.PHONY: kernels-mutants memory-check picture-sets video-check arm64-short arm64-test page-check clients-check onnx-check fmt-check staticcheck tidy vet-platforms complexity deadcode exports generated rooms help build test short race bench fmt lint verify demo fuzz clean toolkit kernels kernels-check kernel-table floors release release-twice release-try cuda-build cuda-header cuda-chroot cuda-lint cuda-test cuda-orders cuda-mutations kernels-sites train-smoke gpu-kit kernels-rough

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

build: ## build bin/unirestorer without cgo
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/unirestorer

test: ## run all tests, with 100 jobs through kills of workers, servers and submitters
	UNIRESTORER_TEST_JOBS=100 $(GO) test ./...

short: ## run the tests that take no more than seconds
	$(GO) test -short ./...

# Slow under the detector, or on the simulator: here only tests that share programs, run blocks side by side or cancel.
RACE_PART = ./graph/graphtest ./graph/models ./runtime/lora ./runtime/verify ./runtime/degrade ./runtime/platform ./runtime/pools ./runtime/quality ./runtime/ranges ./runtime/convert/... ./runtime/imaging/... ./runtime/predict ./runtime/gpu/... ./runtime/ptxsim/... ./runtime/cuda/... ./runtime/profile/... ./cmd/...
race: ## run every concurrent package under the race detector
	CGO_ENABLED=1 $(GO) test -short -race -run '^(Test|Fuzz)' . $$($(GO) list ./graph/... ./weights/... ./runtime/... | grep -vxFf <($(GO) list $(RACE_PART)))
	CGO_ENABLED=1 $(GO) test -short -race -run 'Cancel|Share|Shared|Atomics|Goroutine|Loading|Counters|Usage' $(RACE_PART)

bench: ## run the benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

fmt: ## format the code
	gofmt -w $$($(GO) list -f '{{.Dir}}' ./...)

lint: fmt-check staticcheck ## check format, vet and staticcheck
	$(GO) vet ./...

fmt-check:
	@test -z "$$(gofmt -l . | tee /dev/stderr)"

staticcheck:
	$(GO) run $(STATICCHECK) ./...

tidy: ## check that go.mod and go.sum are tidy
	$(GO) mod tidy -diff
	cd runtime/cpu/simd/gen && $(GO) mod tidy -diff

vet-platforms: ## build for the other platforms that programs are built for, and vet what may differ there
	.ci/platforms

# Kernels and networks for arm64 on another processor, emulated. Plain Go has its tests elsewhere.
ARM64 = GOOS=linux GOARCH=arm64 CGO_ENABLED=0
build/arm64/unirestorer: FORCE
	command -v qemu-aarch64 >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends qemu-user; }
	$(ARM64) $(GO) build -trimpath -o $@ ./cmd/unirestorer
FORCE:

arm64-short: build/arm64/unirestorer ## test the vector kernels of arm64 and three golden cases, emulated by QEMU
	$(ARM64) $(GO) test -exec qemu-aarch64 -skip '/generic|/.*/generic' ./runtime/cpu/simd
	qemu-aarch64 $< verify $(addprefix $(GOLDENS)/,nafnet_local restormer_withbias daclip_visual) --failed

arm64-test: build/arm64/unirestorer ## the CPU backend's tests and every golden case on arm64, emulated by QEMU; minutes
	$(ARM64) $(GO) test -count=1 -timeout 60m -exec qemu-aarch64 ./runtime/cpu/... ./weights/half
	qemu-aarch64 $< verify $(GOLDENS)/* --failed

complexity: ## list functions that are too hard to follow
	.ci/complexity

deadcode: ## list functions that no program reaches
	$(CUDAENV) .ci/deadcode

exports: ## list what packages export although no other uses it
	$(CUDAENV) $(GO) run ./tools/exports

generated: ## fail if generated files are not what their sources give
	$(GO) generate ./runtime/cpu/simd
	$(MAKE) rooms
	git diff --exit-code runtime/cpu/simd docs/design.md docs/images

rooms: ## write the table of rooms in docs/design.md and its pictures; fails where an import points up
	$(GO) run ./tools/rooms

verify: build ## compare every network with the golden cases
	$(BIN) verify $(GOLDENS)/* --failed

demo: build ## restore the sample photo with the built-in model
	$(BIN) restore testdata/photos/rain.png -o build/restored.png --compare

fuzz: ## run every fuzz test for FUZZTIME
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg; \
	  done; done

video-check: ## flicker by kind of degradation, a clip with sound that is interrupted (with ffmpeg), and speed beside restore's
	UNIRESTORER_TEST_LONG=1 $(GO) test -count=1 -timeout 30m -run 'Flicker|Speed|TenSeconds' -v ./runtime/video

jobs-faults: ## restore 1,000 pictures through kills of workers, servers and submitters; JOBS=N for another number
	UNIRESTORER_TEST_JOBS=$(or $(JOBS),1000) $(GO) test -count=1 -timeout 60m -run NothingIsLost -v ./runtime/jobs
memory-check: ## restore 30 pictures, and the largest ones, in processes with memory bounds; takes minutes, a control group needs root
	UNIRESTORER_TEST_MEMORY=1 $(GO) test -count=1 -timeout 3h -run 'MemoryPromise|LargestPicture' -v ./cmd/unirestorer

picture-sets: ## read every picture under PICTURES and compare it with what libvips reads; needs Debian's libvips-tools
	UNIRESTORER_TEST_PICTURES=$(abspath $(PICTURES)) $(GO) test -count=1 -run SetsOfPictures -v ./runtime/imaging

page-check: ## try the server's page in a headless Chromium, which is installed where there is none; needs apt
	command -v chromium >/dev/null || apt-get install -y --no-install-recommends chromium
	UNIRESTORER_TEST_BROWSER=$$(command -v chromium) $(GO) test -count=1 -run Browser -v ./runtime/serve

clients-check: ## call the server with grpcurl and, where PYTHON has the package tritonclient, with that
	GOBIN=$(CURDIR)/build $(GO) install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
	if $(PYTHON) -c 'import tritonclient.http.aio, tritonclient.grpc.aio'; then export UNIRESTORER_TEST_TRITONCLIENT=$(PYTHON); fi; \
	  UNIRESTORER_TEST_GRPCURL=$(CURDIR)/build/grpcurl $(GO) test -count=1 -run 'Grpcurl|Tritonclient' -v ./runtime/serve

clean: ## remove what was built
	rm -rf bin build

toolkit: $(CUDA)/bin/nvcc ## fetch CUDA 12.4's compiler and headers into build/cuda, without installing anything

$(CUDA)/bin/nvcc:
	tools/cuda/toolkit.sh $(CUDA)

kernels: toolkit ## rebuild the committed PTX from kernels/*.cu
	$(MAKE) -C kernels NVCC=$(abspath $(CUDA))/bin/nvcc

kernels-check: toolkit ## fail if the committed PTX is not what the sources give
	rm -rf build/ptx
	$(MAKE) -s -j$$(nproc) -C kernels NVCC=$(abspath $(CUDA))/bin/nvcc PTX=$(abspath build/ptx)
	diff -r kernels/ptx build/ptx

kernel-table: toolkit ## write docs/kernels.md and kernels/resources.json; fails on spills and on missing tensor-core instructions
	$(GO) run ./tools/cuda/kerneltable -ptxas $(CUDA)/bin/ptxas -out docs/kernels.md

floors: ## write docs/floors.md: what the kernels do on a GPU, how long that is predicted to take and what binds
	$(GO) run ./tools/gpukit floors --output docs/floors.md

cuda-build: ## build bin/unirestorer-cuda, which starts on machines without a driver too
	$(CUDAENV) $(GO) build -tags cuda -trimpath -o bin/unirestorer-cuda ./cmd/unirestorer

release: ## make build/release: archives for every system, or for TARGETS; needs clang and lld
	rm -rf build/release
	$(GO) run ./tools/release --output build/release $(TARGETS)
	tools/release/glibc.sh 2.31 build/release

release-twice: ## make the release of the last commit in two folders and compare every byte
	tools/release/twice.sh

release-try: ## try the archive for Linux in the Debian 11 of cuda-chroot, without root and on a read-only file system
	tools/release/try.sh

cuda-header: toolkit ## compare runtime/cuda/include/cuda.h with the header of CUDA 12.4 and with the symbols of drivers
	CUDA=$(abspath $(CUDA)) $(GO) test -count=1 ./runtime/cuda/include

cuda-chroot: ## build and start in a Debian without apt and CUDA, with gcc and with musl-gcc; needs root and debootstrap
	tools/cuda/chroot.sh

cuda-lint: ## vet and staticcheck with the CUDA tags
	$(CUDAENV) $(GO) vet -tags cuda ./cmd/unirestorer ./runtime/cuda/... ./runtime/doctor ./runtime/gpu ./runtime/nvtx ./runtime/platform/... ./runtime/serve ./tools/gpukit
	$(CUDAENV) $(GO) vet -tags "cuda cudasim" ./runtime/cuda/... ./runtime/gpu/... ./runtime/doctor ./tools/gpukit/...
	$(CUDAENV) $(GO) run $(STATICCHECK) -tags cuda ./runtime/cuda/... ./runtime/gpu/... ./runtime/doctor ./runtime/platform/...

onnx-check: ## hold exported ONNX models against ONNX Runtime on every architecture; needs node and npm
	npm ci --ignore-scripts --no-audit --no-fund --prefix tools/peers
	$(GO) test ./runtime/convert/onnx

train-smoke: ## run the training recipe for a few steps; needs Debian's python3-torch
	cd tools && /usr/bin/python3 -m train smoke

# Of runtime/gpu, what does not go through the driver is tested without the tags.
cuda-test: ## run the CUDA device, the GPU backend and the GPU kit on the simulated driver, through gorgonia.org/cu
	mkdir -p build/cuda-tests
	$(CUDAENV) $(GO) test -c -vet=off -tags "cuda cudasim" -o build/cuda-tests/ ./runtime/cuda ./runtime/cuda/simdriver ./runtime/gpu
	cd runtime/cuda && $(abspath build/cuda-tests)/cuda.test -test.short -test.timeout=10m
	cd runtime/cuda/simdriver && $(abspath build/cuda-tests)/simdriver.test -test.short -test.timeout=10m
	cd runtime/gpu && $(abspath build/cuda-tests)/gpu.test -test.short -test.timeout=10m -test.run=ThroughCUDA
	set -e; for order in early reverse 1 2; do for package in cuda cuda/simdriver; do \
	  (cd runtime/$$package && CUDASIM_ORDER=$$order $(abspath build/cuda-tests)/$${package##*/}.test -test.short -test.timeout=10m -test.run=$(ORDERED)); done; done
	cd runtime/gpu && CUDASIM_ORDER=early $(abspath build/cuda-tests)/gpu.test -test.short -test.timeout=10m -test.run=ThroughCUDA -test.skip=CasesMatch
	$(CUDAENV) $(GO) test -vet=off -short -tags "cuda cudasim" ./runtime/cuda/simdriver/timeline ./runtime/doctor ./tools/gpukit
	$(CUDAENV) $(GO) test -vet=off -short -tags cuda ./runtime/cuda ./runtime/cuda/nvml ./runtime/doctor ./runtime/nvtx
	$(CUDAENV) $(GO) test -vet=off -tags "cuda cudasim" -run 'Cards|Isolation|HopBetween' ./cmd/unirestorer ./runtime/serve
ORDERED = '^Test.*(Stream|Event|Capture|Graph|Copies|Context|Conformance)'

cuda-orders: cuda-test ## and the GPU backend where the driver's work runs in other orders
	set -e; cd runtime/gpu; for order in reverse 1 2; do \
	  CUDASIM_ORDER=$$order $(abspath build/cuda-tests)/gpu.test -test.short -test.timeout=10m -test.run=ThroughCUDA; done

kernels-rough: ## run the kernels' tests on a simulator that is no better than a card may be
	UNIRESTORER_TEST_ROUGH=1 $(GO) test -short -skip 'Mutants' ./kernels

kernels-sites: toolkit ## break the kernels at every line of their sources (every STRIDEth with STRIDE=n) and count what their tests notice
	mkdir -p build/sites
	CUDA=$(abspath $(CUDA)) UNIRESTORER_TEST_SITES=$(abspath build/sites.jsonl) UNIRESTORER_TEST_SITES_FOLDER=$(abspath build/sites) \
	  UNIRESTORER_TEST_SITES_STRIDE=$(STRIDE) $(GO) test -run EverySite -timeout 24h -v ./kernels

kernels-mutants: ## change sixteen lines of every kind in each kernel, one at a time, and see that its test notices; minutes
	$(GO) test -count=1 -timeout 30m -run MutantsOfKernels ./kernels -mutants 16

cuda-mutations: ## break the host code in twelve ways, or the MUTATIONS of a pattern, and see that its tests on the simulated driver notice
	$(CUDAENV) $(GO) test -vet=off -timeout 30m -tags "cuda cudasim" -run 'HostMutations/($(MUTATIONS))' ./runtime/cuda/simdriver

gpu-kit: ## build build/gpukit, which tests and measures on a machine with a GPU but without Go
	$(CUDAENV) $(GO) run ./tools/gpukit build --output build/gpukit
