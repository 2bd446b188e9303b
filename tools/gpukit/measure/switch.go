package measure

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/tools/gpukit/results"
	"unirestorer/weights"
)

// adapted gives a network's tensors with the adapters of another.
type adapted struct {
	weights.Source
	adapters weights.Source
}

// Tensor implements weights.Source.
func (a adapted) Tensor(name string) (*weights.Tensor, error) {
	if strings.Contains(name, "lora_") {
		return a.adapters.Tensor(name)
	}
	return a.Source.Tensor(name)
}

// Switches times the replacement of a LoRA expert's adapter on the device, the base staying where it is, and beside it
// loading the expert anew.
func Switches(ctx context.Context, plan *Plan, deviceName string, times int) (_ []results.Start, err error) {
	var s *Subject
	for i := range plan.Subjects {
		if plan.Subjects[i].Architecture == models.LoRARestormerName {
			s = &plan.Subjects[i]
		}
	}
	if s == nil || len(s.Sizes) == 0 {
		return nil, errors.New("the plan has no LoRA network")
	}
	c := s.Sizes[0]
	b, err := open(deviceName)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	file, err := weights.Open(s.Weights)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	other, err := s.Random(seed + 1)
	if err != nil {
		return nil, err
	}
	first, err := s.BuildSwitchable(file, c.Batch, c.Height, c.Width)
	if err != nil {
		return nil, err
	}
	second, err := s.BuildSwitchable(adapted{file, other}, c.Batch, c.Height, c.Width)
	if err != nil {
		return nil, err
	}
	var loads, switches []time.Duration
	var p backend.Program
	for range times {
		if p != nil {
			if err := p.Close(); err != nil {
				return nil, err
			}
		}
		started := time.Now()
		if p, err = b.Compile(ctx, first); err != nil {
			return nil, err
		}
		loads = append(loads, time.Since(started))
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	switcher, ok := p.(backend.Switcher)
	if !ok {
		return nil, fmt.Errorf("%T cannot switch adapters", p)
	}
	inputs, outputs, err := hosts(p, c)
	if err != nil {
		return nil, err
	}
	for i := range 2 * times {
		g := second
		if i%2 == 1 {
			g = first
		}
		started := time.Now()
		if err := switcher.Switch(ctx, g); err != nil {
			return nil, err
		}
		switches = append(switches, time.Since(started))
		if err := p.Run(ctx, inputs, outputs, backend.RunOptions{}); err != nil {
			return nil, err
		}
	}
	return []results.Start{
		{What: s.Name + ": load and compile", Wall: results.TimingOf(loads)},
		{What: s.Name + ": switch to another adapter, base resident", Wall: results.TimingOf(switches)},
	}, nil
}
