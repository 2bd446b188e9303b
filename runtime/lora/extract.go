package lora

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"unirestorer/graph/models"
	"unirestorer/weights"
)

// Expert is a network with its weights.
type Expert struct {
	// Name is for people.
	Name    string
	Network models.Network
	// Source has the network's tensors under their own names, without a prefix.
	Source weights.Source
}

// ExpertOf gives expert i of a model's configuration, whose weights src holds.
func ExpertOf(c *models.Config, src weights.Source, i int) (Expert, error) {
	net, err := c.Expert(i)
	if err != nil {
		return Expert{}, err
	}
	e := c.Experts[i]
	return Expert{Name: e.Name, Network: net, Source: weights.Prefix(src, e.Prefix)}, nil
}

// The names that tensors of a LoRA-Restormer's convolutions end in.
const (
	loraWeight = ".conv.weight"
	loraBias   = ".conv.bias"
	loraA      = ".lora_A"
	loraB      = ".lora_B"
)

// Extraction is the difference of two Restormers of one structure, convolution by convolution, from which adapters of
// any rank up to MaxRank are made.
type Extraction struct {
	Base, Full Expert
	MaxRank    int

	network *models.Restormer
	deltas  map[string]*layerDelta // by convolution
}

// Extract takes full and base apart. Both must be Restormers with equal arguments. progress gets the fraction of the
// work done and may be nil; it is called by one goroutine at a time.
//
// The method is the truncated singular value decomposition of the difference of the weights, in the layout that
// loralib's ConvLoRA gives to B·A (see layerDelta). Nothing is trained.
func Extract(ctx context.Context, base, full Expert, maxRank int, progress func(done float64)) (*Extraction, error) {
	x := &Extraction{Base: base, Full: full, MaxRank: maxRank, deltas: map[string]*layerDelta{}}
	if err := x.extract(ctx, progress); err != nil {
		return nil, fmt.Errorf("extract an adapter of %s over %s: %w", full.Name, base.Name, err)
	}
	return x, nil
}

func (x *Extraction) extract(ctx context.Context, progress func(float64)) error {
	if err := x.check(); err != nil {
		return err
	}
	// Rank 1 and no dense convolutions: every convolution is listed with its factors.
	specs, err := models.Stored(loraNetwork(x.network, 1, false))
	if err != nil {
		return err
	}
	convs := convolutions(specs)
	var total, done int64
	for _, c := range convs {
		total += c.work()
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, c := range convs {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			d, err := x.delta(c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			x.deltas[c.name] = d
			done += c.work()
			if progress != nil {
				progress(float64(done) / float64(total))
			}
			return nil
		})
	}
	return g.Wait()
}

func (x *Extraction) check() error {
	base, ok := x.Base.Network.(*models.Restormer)
	full, ok2 := x.Full.Network.(*models.Restormer)
	if !ok || !ok2 {
		return fmt.Errorf("%s and %s: both must be of architecture %s", x.Full.Network.Architecture(), x.Base.Network.Architecture(), models.RestormerName)
	}
	if a, b := describeArgs(base), describeArgs(full); a != b {
		return fmt.Errorf("the networks differ: %s is %s, %s is %s", x.Full.Name, b, x.Base.Name, a)
	}
	if x.MaxRank <= 0 || x.MaxRank > maxRank {
		return fmt.Errorf("rank %d: want 1 to %d", x.MaxRank, maxRank)
	}
	x.network = base
	return nil
}

// maxRank is no less than the rank of any difference in a network of sensible width.
const maxRank = 4096

func describeArgs(r *models.Restormer) string {
	text, err := json.Marshal(r)
	if err != nil {
		return err.Error() // numbers and strings alone
	}
	return string(text)
}

// loraNetwork is the network that runs adapters of a rank. Its alpha is its rank, so that B·A counts as it is.
func loraNetwork(r *models.Restormer, rank int, dense bool) *models.LoRARestormer {
	alpha := float64(rank)
	return &models.LoRARestormer{
		Restormer: *r, Ranks: []int{rank, rank, rank, rank}, Alphas: []float64{alpha, alpha, alpha, alpha},
		MergeWeights: true, Dense: dense,
	}
}

// convolution is a convolution of a LoRA-Restormer.
type convolution struct {
	name   string
	dims   []int // of the weight
	groups int
}

// work is in proportion to the multiply-adds of the decomposition.
func (c convolution) work() int64 {
	rows, cols := int64(c.dims[0]/c.groups*c.dims[3]), int64(c.dims[1]*c.groups*c.dims[3])
	side := min(rows, cols)
	return rows*cols*side/2 + 8*side*side*side
}

// convolutions lists those that have factors.
func convolutions(specs []models.Spec) []convolution {
	dims := map[string][]int{}
	for _, s := range specs {
		dims[s.Name] = s.Dims
	}
	var all []convolution
	for _, s := range specs {
		name, ok := strings.CutSuffix(s.Name, loraWeight)
		if !ok {
			continue
		}
		if a := dims[name+loraA]; a != nil {
			all = append(all, convolution{name, s.Dims, a[1] / (s.Dims[1] * s.Dims[3])})
		}
	}
	return all
}

func (x *Extraction) delta(c convolution) (*layerDelta, error) {
	base, err := x.Base.Source.Tensor(c.name + ".weight")
	if err != nil {
		return nil, err
	}
	full, err := x.Full.Source.Tensor(c.name + ".weight")
	if err != nil {
		return nil, err
	}
	return deltaOf(base, full, c.groups, x.MaxRank)
}

// Adapter is a LoRA-Restormer made by [Extraction.Adapter].
type Adapter struct {
	Expert
	Rank int
	// Layers describes the convolutions in the order of the network.
	Layers []Layer
	// Bytes is what the adapter's own tensors take: factors, dense weights, biases, normalisations and temperatures;
	// without the base's. Parameters is their number.
	Bytes, Parameters int64
}

// Layer is what an adapter does to a convolution.
type Layer struct {
	Name string `json:"name"`
	Dims []int  `json:"dims"`
	// Dense says that the convolution holds the full expert's weight instead of factors.
	Dense bool `json:"dense"`
	// Energy is ‖ΔW‖², Kept is ‖ΔW_r‖².
	Energy float64 `json:"energy"`
	Kept   float64 `json:"kept"`
	// Parameters and Bytes are those of the factors, or of the dense weight.
	Parameters int64 `json:"parameters"`
	Bytes      int64 `json:"bytes"`
}

// Adapter makes the adapter of a rank. Factors are stored in dtype: F32, F16 or BF16.
//
// Convolutions whose weight has no more values than the factors would take keep the full expert's weight: depthwise
// convolutions always do. Biases, normalisations and temperatures are the full expert's own. So nothing but the
// truncation of the other convolutions, and the rounding of their factors, sets the adapter apart from the full
// expert.
func (x *Extraction) Adapter(rank int, dtype weights.DType) (*Adapter, error) {
	a, err := x.adapter(rank, dtype)
	if err != nil {
		return nil, fmt.Errorf("adapter of %s over %s: %w", x.Full.Name, x.Base.Name, err)
	}
	return a, nil
}

func (x *Extraction) adapter(rank int, dtype weights.DType) (*Adapter, error) {
	if rank <= 0 || rank > x.MaxRank {
		return nil, fmt.Errorf("rank %d: want 1 to %d", rank, x.MaxRank)
	}
	net := loraNetwork(x.network, rank, true)
	specs, err := models.Stored(net)
	if err != nil {
		return nil, err
	}
	m := &maker{Extraction: x, tensors: weights.NewMap(), dtype: dtype, factored: map[string]bool{},
		adapter: &Adapter{Rank: rank, Expert: Expert{Name: fmt.Sprintf("%s-lora-r%d", x.Full.Name, rank), Network: net}}}
	for _, c := range convolutions(specs) {
		m.factored[c.name] = true
	}
	for _, s := range specs {
		if err := m.add(s); err != nil {
			return nil, err
		}
	}
	m.adapter.Source = m.tensors
	return m.adapter, nil
}

// maker collects the tensors of an adapter.
type maker struct {
	*Extraction
	adapter  *Adapter
	tensors  *weights.Map
	dtype    weights.DType
	factored map[string]bool
}

// add makes what the specification asks for, under its name.
func (m *maker) add(s models.Spec) error {
	if name, ok := strings.CutSuffix(s.Name, loraWeight); ok {
		if m.factored[name] {
			return m.factors(name, s)
		}
		return m.dense(name, s)
	}
	name := s.Name
	if strings.HasSuffix(name, loraA) || strings.HasSuffix(name, loraB) {
		return nil // come with the weight
	}
	if module, ok := strings.CutSuffix(name, loraBias); ok {
		name = module + ".bias"
	}
	t, err := m.Full.Source.Tensor(name)
	if err != nil {
		return err
	}
	m.own(t.WithName(s.Name))
	return nil
}

// own adds a tensor that the adapter does not share with its base.
func (m *maker) own(t *weights.Tensor) {
	m.tensors.Set(t)
	m.adapter.Bytes += t.NumBytes()
	m.adapter.Parameters += int64(t.NumElements())
}

func (m *maker) factors(name string, s models.Spec) error {
	base, err := m.Base.Source.Tensor(name + ".weight")
	if err != nil {
		return err
	}
	m.tensors.Set(base.WithName(s.Name))
	d, layer := m.deltas[name], Layer{Name: name, Dims: s.Dims}
	layer.Energy, layer.Kept = d.Energy, d.kept(m.adapter.Rank)
	a, b, err := d.factors(name, m.adapter.Rank)
	if err != nil {
		return err
	}
	for _, t := range []*weights.Tensor{a, b} {
		if t, err = t.As(m.dtype); err != nil {
			return err
		}
		m.own(t)
		layer.Parameters += int64(t.NumElements())
		layer.Bytes += t.NumBytes()
	}
	m.adapter.Layers = append(m.adapter.Layers, layer)
	return nil
}

func (m *maker) dense(name string, s models.Spec) error {
	t, err := m.Full.Source.Tensor(name + ".weight")
	if err != nil {
		return err
	}
	d := m.deltas[name]
	if d == nil {
		return errors.New("no difference of " + name)
	}
	m.own(t.WithName(s.Name))
	m.adapter.Layers = append(m.adapter.Layers, Layer{
		Name: name, Dims: s.Dims, Dense: true, Energy: d.Energy, Kept: d.Energy, Parameters: int64(t.NumElements()), Bytes: t.NumBytes(),
	})
	return nil
}

// Kept is the share of the whole difference's energy that the adapter holds, from 0 to 1; 1 where the experts do not
// differ. Energy says how far weights are from the full expert's, not how far results are.
func (a *Adapter) Kept() float64 {
	var kept, all float64
	for _, l := range a.Layers {
		kept += l.Kept
		all += l.Energy
	}
	if all == 0 {
		return 1
	}
	return kept / all
}
