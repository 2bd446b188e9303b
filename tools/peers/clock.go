package main

import (
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"unirestorer/runtime/proctime"
)

// clockVariable tells workers which clock to take times by.
const clockVariable = "PEERS_CLOCK"

// The clocks: what a watch shows, or how long the process had a processor,
// which on a machine shared with others is what a run on one thread costs.
const (
	clockWall = "wall"
	clockCPU  = "cpu"
)

func clockFlag() cli.Flag {
	return &cli.StringFlag{Name: "clock", Value: clockWall, Usage: "`CLOCK` of runs: wall, or cpu for the time that the process had a processor, on one thread and a shared machine",
		Action: func(c *cli.Context, clock string) error {
			if clock != clockWall && clock != clockCPU {
				return fmt.Errorf("--clock %s: there are %s and %s", clock, clockWall, clockCPU)
			}
			if clock == clockCPU && c.Int("threads") != 1 {
				return fmt.Errorf("--clock cpu needs --threads 1: threads that wait for each other take time too")
			}
			return os.Setenv(clockVariable, clock)
		}}
}

var started = time.Now()

// now is the time in seconds by the chosen clock.
func now() float64 {
	if os.Getenv(clockVariable) == clockCPU {
		return proctime.Used().Seconds()
	}
	return time.Since(started).Seconds()
}
