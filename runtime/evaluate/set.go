package evaluate

import (
	"context"
	"sync"

	"unirestorer/runtime/imaging"
)

// Sample describes a picture of a [Set].
type Sample struct {
	// Case is what the picture counts for in the tables, such as "rain".
	Case string `json:"case"`
	// Variant is a part of the case, such as "rain:0.25".
	Variant string `json:"variant"`
	// Name says where the picture is from.
	Name string `json:"name"`
	// Photo is the photo that a synthetic picture is a part of.
	Photo string `json:"photo,omitempty"`
	// Spec is what a synthetic picture went through, in the text form of
	// degrade.Spec, seed included.
	Spec string `json:"spec,omitempty"`
	// Kinds are the degradations in the picture, "clean" for none; empty when
	// not known.
	Kinds []string `json:"kinds,omitempty"`
}

// Set is a test set. Its methods may be called from several goroutines.
type Set interface {
	// Len is the number of pictures.
	Len() int
	// Sample describes picture i.
	Sample(i int) Sample
	// Pictures gives picture i, degraded as a file would store it and clean and
	// upright. Upright, both have one size. They are not to be changed.
	Pictures(ctx context.Context, i int) (degraded, clean *imaging.Image, err error)
	// Bytes is what the set keeps in memory.
	Bytes() int64
}

// cached is a set that keeps pictures as long as they fit a budget; the others
// are made anew whenever they are asked for.
type cached struct {
	Set
	mu   sync.Mutex
	left int64
	kept map[int][2]*imaging.Image
}

func newCached(s Set, budget int64) *cached {
	return &cached{Set: s, left: budget, kept: map[int][2]*imaging.Image{}}
}

func (c *cached) Pictures(ctx context.Context, i int) (degraded, clean *imaging.Image, err error) {
	c.mu.Lock()
	pair, ok := c.kept[i]
	c.mu.Unlock()
	if ok {
		return pair[0], pair[1], nil
	}
	degraded, clean, err = c.Set.Pictures(ctx, i)
	if err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if size := bytesOf(degraded) + bytesOf(clean); size <= c.left {
		c.left -= size
		c.kept[i] = [2]*imaging.Image{degraded, clean}
	}
	return degraded, clean, nil
}

func bytesOf(img *imaging.Image) int64 {
	return int64(img.W) * int64(img.H) * int64(img.Channels) * int64(img.Depth/8)
}
