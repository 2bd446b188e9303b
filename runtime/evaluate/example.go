package evaluate

import (
	"bytes"
	"fmt"
	"image"
	"maps"
	"slices"
	"sync"

	"unirestorer/runtime/imaging"
)

// Example is a picture degraded, restored as routed and clean, side by side in
// a JPEG file.
type Example struct {
	// Number is that of the record.
	Number int
	JPEG   []byte
}

// Examples collects some pictures of every case while an evaluation runs.
type Examples struct {
	wanted map[int]bool
	mu     sync.Mutex
	found  map[int][]byte
}

// NewExamples wants up to perCase pictures of every case of a set. They are
// taken by their number alone: the first case shows its first ones, the second
// case those from its second one on, and so on, so that a page shows various
// photos and severities.
func NewExamples(set Set, perCase int) *Examples {
	e := &Examples{wanted: map[int]bool{}, found: map[int][]byte{}}
	var order []string
	numbers := map[string][]int{}
	for i := range set.Len() {
		name := set.Sample(i).Case
		if numbers[name] == nil {
			order = append(order, name)
		}
		numbers[name] = append(numbers[name], i)
	}
	for first, name := range order {
		all := numbers[name]
		for k := range min(perCase, len(all)) {
			e.wanted[all[(first+k)%len(all)]] = true
		}
	}
	return e
}

// Add takes a picture if it is wanted; it is meant for [Options].Routed.
func (e *Examples) Add(number int, degraded, restored, clean *imaging.Image) error {
	if !e.wanted[number] {
		return nil
	}
	data, err := triptych(degraded, restored, clean)
	if err != nil {
		return fmt.Errorf("example: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.found[number] = data
	return nil
}

// List gives the examples in the order of their numbers.
func (e *Examples) List() []Example {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []Example
	for _, n := range slices.Sorted(maps.Keys(e.found)) {
		list = append(list, Example{n, e.found[n]})
	}
	return list
}

// The shape of a triptych: the side of each part at most, the gap between
// parts, and the JPEG quality, at which compression is not seen.
const (
	exampleSide    = 384
	exampleGap     = 6
	exampleQuality = 95
)

// triptych puts the middles of three pictures of one size side by side.
func triptych(pictures ...*imaging.Image) ([]byte, error) {
	first := pictures[0]
	w, h := min(first.W, exampleSide), min(first.H, exampleSide)
	total := len(pictures)*w + (len(pictures)-1)*exampleGap
	out, err := imaging.New(total, h, 3, 8)
	if err != nil {
		return nil, err
	}
	for i := range out.Pix {
		out.Pix[i] = 255
	}
	part := make([]float32, w*h*3)
	for i, img := range pictures {
		at := image.Pt((img.W-w)/2, (img.H-h)/2)
		if err := img.RGBFloat(part, image.Rectangle{Min: at, Max: at.Add(image.Pt(w, h))}); err != nil {
			return nil, err
		}
		x := i * (w + exampleGap)
		if err := out.SetRGBFloat(part, image.Rect(x, 0, x+w, h)); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	err = imaging.Encode(&b, out, imaging.EncodeOptions{Format: imaging.JPEG, Quality: exampleQuality})
	return b.Bytes(), err
}
