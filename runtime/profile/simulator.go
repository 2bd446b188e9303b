package profile

import (
	"errors"
	"fmt"
	"sync"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/gpu"
	"unirestorer/runtime/ptxsim"
)

// Simulator is a backend on a simulated GPU that keeps what the simulator
// counts.
type Simulator struct {
	backend.Backend

	mu      sync.Mutex
	reports []ptxsim.Report
}

// NewSimulator starts a simulator of a GPU's architecture on so many threads, 0
// for all cores.
func NewSimulator(card GPU, threads int) (*Simulator, error) {
	if threads < 0 {
		return nil, fmt.Errorf("start simulator: %d threads", threads)
	}
	s := &Simulator{}
	dev, err := ptxsim.New(ptxsim.Options{Arch: card.Arch, Workers: threads, OnLaunch: s.add})
	if err != nil {
		return nil, fmt.Errorf("start simulator: %w", err)
	}
	if s.Backend, err = gpu.New(dev, gpu.Options{Name: "sim", NoGraphs: true}); err != nil {
		return nil, fmt.Errorf("start simulator: %w", errors.Join(err, dev.Close()))
	}
	return s, nil
}

func (s *Simulator) add(r ptxsim.Report) {
	r.HotLines = nil // not needed, and large
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports = append(s.reports, r)
}

// take gives the reports since the last call.
func (s *Simulator) take() []ptxsim.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.reports
	s.reports = nil
	return all
}
