package backend

import (
	"errors"
	"fmt"
)

// Condition is whether a program can run. The program's lock guards it. The
// zero value can.
type Condition struct {
	closed bool
	broken error // why adapters are replaced in part
}

// Open is an error once the program is closed.
func (c *Condition) Open() error {
	if c.closed {
		return errors.New("the program is closed")
	}
	return nil
}

// Usable is an error if the program can't run.
func (c *Condition) Usable() error {
	if err := c.Open(); err != nil {
		return err
	}
	return c.broken
}

// Close notes that the program is closed, and tells whether it was open.
func (c *Condition) Close() bool {
	was := c.closed
	c.closed = true
	return !was
}

// Replace lets fill replace the adapters. If that fails, the program can't run
// until another replacement succeeds.
func (c *Condition) Replace(fill func() error) error {
	c.broken = nil
	err := fill()
	if err != nil {
		c.broken = fmt.Errorf("its adapters were replaced in part: %w", err)
	}
	return err
}
