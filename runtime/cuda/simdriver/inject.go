//go:build cuda && cudasim && linux

package simdriver

import "C"

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// FaultVariable is the environment variable that makes a GPU fail: GPU:KIND:LAUNCH[:FILE]. The kernel run with that number on
// that GPU, or on any if GPU is *, counted from 1 in each process, ends in a fault of KIND:
//
//	illegal  an illegal address
//	ecc      an uncorrectable memory error
//	lost     the GPU falls off the bus; no process can use it from then on
//	hang     the kernel never ends
//
// With FILE only the first process to get there fails, which makes the file and names the GPU in it; without it every process
// does.
const FaultVariable = "CUDASIM_FAULT"

// GPUsVariable is the environment variable with the compute capabilities of the GPUs, "90,80" where it is not set.
const GPUsVariable = "CUDASIM_GPUS"

// cards makes the GPUs.
func cards() []*gpu {
	value := os.Getenv(GPUsVariable)
	if value == "" {
		value = "90,80"
	}
	var gpus []*gpu
	for text := range strings.SplitSeq(value, ",") {
		arch, err := strconv.Atoi(text)
		if err != nil {
			panic(fmt.Sprintf("%s=%s: want compute capabilities like 90,80", GPUsVariable, value)) // a test's own fault
		}
		gpus = append(gpus, &gpu{arch: arch})
	}
	for i, m := range memories(len(gpus)) {
		gpus[i].memory = m
	}
	return gpus
}

// injected is a fault that the environment asked for.
type injected struct {
	code C.int
	kind string
}

func (i *injected) Error() string { return "injected fault: " + i.kind }

// The results of faults.
const (
	eccUncorrectable   C.int = 214
	devicesUnavailable C.int = 46
	unknownError       C.int = 999
)

// plan is what FaultVariable says.
type plan struct {
	gpu    int // -1 for any
	kind   string
	launch int64
	file   string
}

var planned = sync.OnceValue(func() *plan {
	value := os.Getenv(FaultVariable)
	if value == "" {
		return nil
	}
	part := strings.SplitN(value, ":", 4)
	if len(part) < 3 {
		panic(fmt.Sprintf("%s=%s: want GPU:KIND:LAUNCH[:FILE]", FaultVariable, value)) // a test's own fault
	}
	gpu, err1 := -1, error(nil)
	if part[0] != "*" {
		gpu, err1 = strconv.Atoi(part[0])
	}
	launch, err2 := strconv.ParseInt(part[2], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		panic(fmt.Sprintf("%s=%s: %v", FaultVariable, value, err))
	}
	p := &plan{gpu: gpu, kind: part[1], launch: launch}
	if len(part) == 4 {
		p.file = part[3]
	}
	return p
})

// on tells whether the fault may befall a GPU.
func (p *plan) on(gpu int) bool { return p.gpu < 0 || p.gpu == gpu }

var launches atomic.Int64 // kernels run on GPUs that may fail

// inject gives the fault that a kernel on a GPU ends in; it does not return from one that hangs.
func inject(gpu int) error {
	p := planned()
	if p == nil || !p.on(gpu) || launches.Add(1) != p.launch {
		return nil
	}
	if p.file != "" {
		f, err := os.OpenFile(p.file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return nil // another process has failed already
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(f, gpu)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	switch p.kind {
	case "illegal":
		return &injected{illegalAddress, p.kind}
	case "ecc":
		return &injected{eccUncorrectable, p.kind}
	case "lost":
		return &injected{unknownError, p.kind}
	case "hang":
		for {
			time.Sleep(time.Hour)
		}
	}
	return fmt.Errorf("%s: no fault %q", FaultVariable, p.kind)
}

// gone reports whether a GPU has fallen off the bus.
func gone(gpu int) bool {
	p := planned()
	if p == nil || !p.on(gpu) || p.kind != "lost" || p.file == "" {
		return false
	}
	name, err := os.ReadFile(p.file)
	return err == nil && string(name) == strconv.Itoa(gpu)
}
