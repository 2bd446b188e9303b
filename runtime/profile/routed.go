package profile

import (
	"errors"
	"fmt"
	"math"

	"unirestorer/runtime/experts"
)

// Routed is what a pool costs as images are routed to it.
type Routed struct {
	// Images is the number of images routed; Failed names those that could not
	// be read, with the reason.
	Images int      `json:"images"`
	Failed []string `json:"failed,omitempty"`
	// Width and Height are the size that experts' times are for, whatever the
	// images' own.
	Width  int `json:"width"`
	Height int `json:"height"`
	// Prepare is the time from an image in memory to the estimator's input,
	// Decide that from there to the decision: estimator, router and host.
	Prepare Latency `json:"prepare"`
	Decide  Latency `json:"decide"`
	// Shares says how often each expert of the pool was chosen.
	Shares []Share `json:"shares"`
	// Coarse is the expert that always running one is compared with.
	Coarse int      `json:"coarse_expert"`
	Cost   Cost     `json:"cost"`
	Pool   *PoolUse `json:"pool,omitempty"`
}

// Share is how often an expert was chosen and what it costs.
type Share struct {
	Expert int     `json:"expert"`
	Name   string  `json:"name"`
	Count  int     `json:"count"`
	Share  float64 `json:"share"`
	// Seconds is the median time of a run; 0 for experts never chosen.
	Seconds float64 `json:"seconds"`
	// Contribution is Share times Seconds.
	Contribution float64 `json:"contribution_seconds"`
}

// Cost is the mean time an image takes as routed, in seconds.
type Cost struct {
	// Experts is the sum of all contributions, Overhead what estimating and
	// routing add, Switch the time spent loading experts.
	Experts  float64 `json:"experts_seconds"`
	Overhead float64 `json:"overhead_seconds"`
	Switch   float64 `json:"switch_seconds"`
	Total    float64 `json:"total_seconds"`
	// OverheadShare is Overhead's part of Total, from 0 to 1.
	OverheadShare float64 `json:"overhead_share"`
	// Coarse is the time when every image goes to the coarse expert and nothing
	// is estimated; Saved what routing saves against that, from -∞ to 1.
	Coarse float64 `json:"coarse_seconds"`
	Saved  float64 `json:"saved_share"`
}

// PoolUse is what serving the images in order asked of a pool.
type PoolUse struct {
	// Budget is the bound on what is resident, 0 for none.
	Budget int64 `json:"budget_bytes"`
	experts.Stats
	HitRate float64 `json:"hit_rate"`
}

// loading is the mean time an image waits for its expert, in seconds.
func (u *PoolUse) loading() float64 {
	images := u.Hits + u.Misses
	if images == 0 {
		return 0
	}
	return (u.LoadTime + u.SwitchTime).Seconds() / float64(images)
}

// routedCost adds a routed pool's costs up. seconds has the median time of
// every expert that was chosen, and of the coarse one; overhead and loading are
// those of an image on average.
func routedCost(chosen []int, coarse int, seconds map[int]float64, overhead, loading float64) ([]Share, Cost, error) {
	if len(chosen) == 0 {
		return nil, Cost{}, errors.New("no image was routed")
	}
	counts := map[int]int{}
	most := coarse
	for _, e := range chosen {
		counts[e]++
		most = max(most, e)
	}
	var shares []Share
	var c Cost
	for e := range most + 1 {
		n := counts[e]
		if n == 0 {
			continue
		}
		t, ok := seconds[e]
		if !ok || !(t > 0) || math.IsInf(t, 0) {
			return nil, Cost{}, fmt.Errorf("the time of expert %d is not known", e)
		}
		s := Share{Expert: e, Count: n, Share: float64(n) / float64(len(chosen)), Seconds: t}
		s.Contribution = s.Share * s.Seconds
		c.Experts += s.Contribution
		shares = append(shares, s)
	}
	c.Overhead, c.Switch = overhead, loading
	c.Total = c.Experts + c.Overhead + c.Switch
	c.OverheadShare = c.Overhead / c.Total
	c.Coarse = seconds[coarse]
	if !(c.Coarse > 0) {
		return nil, Cost{}, fmt.Errorf("the time of expert %d, the coarse one, is not known", coarse)
	}
	c.Saved = 1 - c.Total/c.Coarse
	return shares, c, nil
}
