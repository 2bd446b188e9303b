//go:build cuda && cudasim && linux

package simdriver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"
)

// MemoryVariable is the environment variable with the memory of each GPU, "64MiB,32MiB"; those that it does not name have the
// simulator's usual.
const MemoryVariable = "CUDASIM_MEMORY"

// SharedVariable is the environment variable with the folder in which processes that share the GPUs keep account of what
// they hold of their memory. Without it a process has the GPUs for itself.
const SharedVariable = "CUDASIM_SHARED"

// memories reads MemoryVariable for n GPUs; 0 is the usual.
func memories(n int) []int64 {
	all := make([]int64, n)
	value := os.Getenv(MemoryVariable)
	if value == "" {
		return all
	}
	for i, text := range strings.Split(value, ",") {
		bytes, err := humanize.ParseBytes(text)
		if err != nil || i >= n {
			panic(fmt.Sprintf("%s=%s: want sizes for %d GPUs", MemoryVariable, value, n)) // a test's own fault
		}
		all[i] = int64(bytes)
	}
	return all
}

// sharing does something with a GPU's memory while no other process does, and keeps account of what this process has then.
func (c *context) sharing(f func() error) error {
	folder := os.Getenv(SharedVariable)
	if folder == "" {
		return f()
	}
	lock, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	others, err := c.others(folder)
	if err != nil {
		return err
	}
	c.sim.Occupy(others)
	failed := f()
	free, total, err := c.sim.Memory()
	if err == nil {
		err = os.WriteFile(c.accountOf(folder, os.Getpid()), strconv.AppendInt(nil, total-free-others, 10), 0o600)
	}
	return errors.Join(failed, err)
}

func (c *context) accountOf(folder string, pid int) string {
	return filepath.Join(folder, fmt.Sprintf("gpu%d-%d", c.gpu, pid))
}

// others adds up what other processes hold. Those that have ended hold nothing.
func (c *context) others(folder string) (sum int64, err error) {
	names, err := filepath.Glob(filepath.Join(folder, fmt.Sprintf("gpu%d-*", c.gpu)))
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name[strings.LastIndex(name, "-")+1:])
		if err != nil || pid == os.Getpid() || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return 0, err
		}
		bytes, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		sum += bytes
	}
	return sum, nil
}
