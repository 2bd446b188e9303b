package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/ledger"
	"unirestorer/runtime/router"
)

// picture is what is known of a picture before it is decoded.
type picture struct {
	what string // for messages; may be empty
	w, h int    // upright
	// held is what it holds for itself, in bytes, from before it is decoded until
	// it is written.
	held int64
}

// pictureOf is a decoded picture: itself, upright, and the result.
func pictureOf(img *imaging.Image, reserve int64) picture {
	p := picture{w: img.W, h: img.H, held: imageBytes(img) + reserve}
	if img.Meta.Orientation >= 5 {
		p.w, p.h = p.h, p.w
	}
	return p
}

// imageBytes counts a decoded picture, its upright copy unless it is upright, and
// the result.
func imageBytes(img *imaging.Image) int64 {
	copies := int64(2)
	if img.Meta.Orientation > 1 {
		copies++
	}
	if img.HasAlpha() {
		copies++ // what lies under transparency is filled
	}
	return copies * pixelBytes(img)
}

func pixelBytes(img *imaging.Image) int64 {
	return int64(img.W) * int64(img.H) * int64(img.Channels) * int64(img.Depth/8)
}

// fileBytes is what a picture holds on its way from a file to a file: the most
// of decoding it, turning it upright, restoring and writing it.
func fileBytes(p imaging.Probe, opt FileOptions, out imaging.Format) int64 {
	pixels := p.PixelBytes()
	working, writing := 2*pixels, pixels+p.EncodeWork(out)
	if p.Channels%2 == 0 { // what lies under transparency is filled
		working += pixels
	}
	if opt.Compare {
		// Before, and both side by side with a line between them.
		working, writing = working+pixels, 2*pixels+max(p.EncodeWork(out), 2*pixels+pixels/4+twice(p.Config).EncodeWork(imaging.PNG))
	}
	return max(p.DecodeBytes, working, writing)
}

func twice(c imaging.Config) imaging.Config {
	c.W = 2*c.W + c.W/8
	return c
}

// planKey identifies what running an expert takes: experts of one architecture
// with equal arguments take the same.
type planKey struct {
	class, variant string
	h, w           int
}

// class is what the plans of an expert depend on.
func (r *Restorer) class(expert int) string {
	e := r.model.Config.Experts[expert]
	e.Name, e.Prefix, e.Level, e.Kinds, e.Source, e.File = "", "", 0, nil, nil, nil
	if r.config.Adapters == "" || r.config.Adapters == experts.Merged {
		e.Base = nil
	}
	text, err := json.Marshal(e)
	if err != nil { // what cannot be written was never read
		return fmt.Sprint(expert)
	}
	return fmt.Sprintf("%s %t", text, r.pool.SharesBase(expert))
}

// maxPlans bounds what is remembered of plans.
const maxPlans = 4096

// memory is what an expert needs for a tile, its program counted with its
// weights, at most: what is loaded already may
// take less, but the choice of tiles must not depend on that.
func (r *Restorer) memory(expert, h, w int, v experts.Variant) (backend.Memory, error) {
	k := planKey{r.class(expert), v.Key, h, w}
	r.plansMu.Lock()
	m, ok := r.plans[k]
	r.plansMu.Unlock()
	if ok {
		return m, nil
	}
	m, plan, err := r.pool.NeedVariant(expert, 1, h, w, v)
	if err != nil {
		return m, err
	}
	m.Weights += plan // which are charged together
	r.plansMu.Lock()
	defer r.plansMu.Unlock()
	if len(r.plans) >= maxPlans {
		clear(r.plans)
	}
	if known, ok := r.plans[k]; ok {
		return known, nil
	}
	r.plans[k] = m
	return m, nil
}

// use is what a job takes of the lane.
type use struct{ host, card int64 }

func (u use) max(v use) use { return use{max(u.host, v.host), max(u.card, v.card)} }

// useOf is what work with m on the device and buffers on the host takes.
func (r *Restorer) useOf(m backend.Memory, buffers int64) use {
	u := use{host: paged(buffers) + paged(m.Host), card: paged(m.Arena) + m.Weights}
	if !r.lane.ownMemory() {
		u.host += u.card
		u.card = 0
	}
	return u
}

// need is a picture's reservation for work that takes u of the lane.
func (r *Restorer) need(p picture, u use) ledger.Need {
	n := ledger.Need{What: p.what, Bytes: p.held, Claims: []ledger.Claim{{Lane: r.lane.host, Bytes: u.host}}}
	if r.cardIsHost() {
		n.Claims = append(n.Claims, ledger.Claim{Lane: r.lane.card, Bytes: u.card})
	}
	return n
}

// cardIsHost tells that the device's memory is a part of the host's.
func (r *Restorer) cardIsHost() bool {
	return r.lane.ownMemory() && r.lane.card.Ledger().PartOf(r.host)
}

// check tells whether a picture could ever be restored with u of the lane.
func (r *Restorer) check(p picture, u use) error {
	if err := r.host.Check(r.need(p, u)); err != nil {
		return err
	}
	if r.lane.ownMemory() && !r.cardIsHost() {
		return r.lane.card.Ledger().Check(ledger.Need{What: p.what, Claims: []ledger.Claim{{Lane: r.lane.card, Bytes: u.card}}})
	}
	return nil
}

// experts lists those that may be chosen for a picture.
func (r *Restorer) experts(o router.Override) ([]int, error) {
	if o.Expert != nil {
		return []int{*o.Expert}, nil
	}
	if !r.model.Config.Routed() {
		d, err := router.Unrouted(r.model.Config, o)
		if err != nil {
			return nil, err
		}
		return []int{d.Expert}, nil
	}
	tree := &r.model.Config.Tree
	var all []int
	for i, leaf := range tree.Leaves {
		if len(o.Leaves) > 0 && !slices.Contains(o.Leaves, i) {
			continue
		}
		for level, e := range leaf.Experts {
			if o.Level == nil || *o.Level == level {
				all = append(all, e)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// admit waits until a picture can have what it holds and, when its turn comes,
// what any expert that may be chosen for it takes. It is an error at once if
// none of them could ever run.
func (r *Restorer) admit(ctx context.Context, p picture, opt Options) (*ledger.Reservation, error) {
	var n ledger.Need
	if err := r.lane.patiently(ctx, opt.Waits, func() (err error) {
		n, err = r.needs(p, opt)
		return err
	}); err != nil {
		return nil, err
	}
	return r.host.Reserve(ctx, n)
}

// needs is what admit waits for.
func (r *Restorer) needs(p picture, opt Options) (n ledger.Need, err error) {
	if err := opt.Override.Check(r.model.Config); err != nil {
		return n, err
	}
	r.lane.refresh()
	var most use
	if opt.Override.Expert == nil && r.model.Config.Routed() {
		if most, err = r.estimating(p); err != nil {
			return n, err
		}
	}
	fits, first := false, error(nil)
	seen := map[string]bool{}
	candidates, err := r.experts(opt.Override)
	if err != nil {
		return n, err
	}
	for _, e := range candidates {
		if r.model.Config.Experts[e].Architecture == models.IdentityName {
			fits = true
			continue
		}
		if class := r.class(e); seen[class] {
			continue
		} else {
			seen[class] = true
		}
		j, err := r.plan(e, p, opt)
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		fits = true
		most = most.max(j.use)
	}
	if !fits && first != nil && (r.fallback == nil || !errors.Is(first, ledger.ErrTooLarge)) {
		return n, first
	}
	return r.need(p, most), nil
}

// estimating is what estimating takes of the lane for a picture, nothing where the fallback does it.
func (r *Restorer) estimating(p picture) (use, error) {
	u, err := r.estimatorUse()
	if err != nil {
		return u, err
	}
	if err := r.check(p, u); err != nil {
		if r.fallback != nil && r.lane.lacks(err) {
			return use{}, nil
		}
		return u, fmt.Errorf("estimate the degradation: %w", err)
	}
	return u, nil
}

// estimatorUse is what estimating takes of the lane.
func (r *Restorer) estimatorUse() (use, error) {
	r.plansMu.Lock()
	defer r.plansMu.Unlock()
	if r.routing == nil {
		if !r.model.Config.Routed() {
			r.routing = &backend.Memory{}
			return use{}, nil
		}
		g, err := r.model.Config.BuildRouting(nil, 1, models.Options{})
		if err != nil {
			return use{}, err
		}
		m, err := r.backend.Plan(g)
		if err != nil {
			return use{}, err
		}
		r.routing = &m
	}
	return r.useOf(*r.routing, 0), nil
}
