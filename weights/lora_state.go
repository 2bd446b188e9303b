package weights

import (
	"fmt"
	"math"
	"slices"
)

// MergeState says what the stored base weight of an adapter is.
type MergeState uint8

const (
	// MergeUnknown: the adapter changes the weight by no more than rounding could, so there is no telling.
	MergeUnknown MergeState = iota
	// Unmerged: the weight is the one the adapter was trained on. The adapter still has to be added.
	Unmerged
	// AlreadyMerged: the weight already includes the adapter, as when a network is saved while it is in evaluation
	// mode. Adding it again would count it twice.
	AlreadyMerged
	// MergeNeither: the weight is not the one the adapter was trained on, with the adapter or without.
	MergeNeither
)

// String names the state.
func (s MergeState) String() string {
	switch s {
	case MergeUnknown:
		return "unknown"
	case Unmerged:
		return "unmerged"
	case AlreadyMerged:
		return "already merged"
	case MergeNeither:
		return "neither"
	default:
		return fmt.Sprintf("MergeState(%d)", uint8(s))
	}
}

// MergeEvidence is a MergeState with the Euclidean norms that it rests on.
type MergeEvidence struct {
	State MergeState
	// Delta is the norm of (alpha/r)·B·A: what the adapter adds.
	Delta float64
	// ToReference and ToMerged are how far the stored weight is from the reference, and from the reference with the
	// adapter added.
	ToReference, ToMerged float64
	// Tolerance is the distance below which two weights count as equal: four times what rounding both to F16 can
	// make, and 1/512 of delta for the rounding of A and B.
	Tolerance float64
}

// String gives the state and the norms.
func (e MergeEvidence) String() string {
	return fmt.Sprintf("%s (adapter %.3g, to reference %.3g, to merged %.3g, tolerance %.3g)",
		e.State, e.Delta, e.ToReference, e.ToMerged, e.Tolerance)
}

// MergeState compares the stored base weight with the weight the adapter was trained on: for an expert of a pool,
// that of the expert it was fine-tuned from.
func (l *LoRA) MergeState(reference *Tensor) (MergeEvidence, error) {
	if !slices.Equal(reference.Shape, l.Base.Shape) {
		return MergeEvidence{}, fmt.Errorf("LoRA of %v: the reference is %v", l.Base, reference)
	}
	delta := make([]float32, l.Base.NumElements())
	if err := l.delta(delta); err != nil {
		return MergeEvidence{}, err
	}
	base, err := l.Base.Float32()
	if err != nil {
		return MergeEvidence{}, err
	}
	ref, err := reference.Float32()
	if err != nil {
		return MergeEvidence{}, err
	}
	var sumDelta, sumRef, sumMerged, sumSize float64
	for i := range base {
		d, r := float64(delta[i]), float64(ref[i])
		diff := float64(base[i]) - r
		sumDelta += d * d
		sumRef += diff * diff
		sumMerged += (diff - d) * (diff - d)
		sumSize += (math.Abs(r) + math.Abs(d)) * (math.Abs(r) + math.Abs(d))
	}
	// Rounding a value v to F16 moves it by at most 2⁻¹¹·|v|, or 2⁻²⁵ below the normal range.
	rounding := math.Sqrt(sumSize)*0x1p-11 + math.Sqrt(float64(len(base)))*0x1p-25
	e := MergeEvidence{
		Delta:       math.Sqrt(sumDelta),
		ToReference: math.Sqrt(sumRef),
		ToMerged:    math.Sqrt(sumMerged),
	}
	e.Tolerance = 4*rounding + e.Delta/512
	// An adapter can be so small that both count as equal; then one must be several times nearer.
	const clearly = 4
	equalsReference, equalsMerged := e.ToReference <= e.Tolerance, e.ToMerged <= e.Tolerance
	switch {
	case equalsReference && (!equalsMerged || e.ToReference*clearly < e.ToMerged):
		e.State = Unmerged
	case equalsMerged && (!equalsReference || e.ToMerged*clearly < e.ToReference):
		e.State = AlreadyMerged
	case equalsReference:
		e.State = MergeUnknown
	default: // also with NaN
		e.State = MergeNeither
	}
	return e, nil
}
