package models

import (
	"fmt"

	"unirestorer/graph"
	"unirestorer/weights"
)

// LoRARestormer is a Restormer in which every convolution carries a LoRA
// adapter, in upstream's restormer_lora_arch.LoRARestormer (loralib's
// ConvLoRA). Ranks and Alphas are given for each of the four levels.
type LoRARestormer struct {
	Restormer
	Ranks  []int     `json:"r"`
	Alphas []float64 `json:"lora_alpha"`
	// Dropout and MergeWeights only matter in training.
	Dropout      float64 `json:"lora_dropout"`
	MergeWeights bool    `json:"merge_weights"`
}

func defaultLoRARestormer() *LoRARestormer {
	return &LoRARestormer{
		Restormer: *defaultRestormer(),
		Ranks:     []int{8, 8, 8, 8}, Alphas: []float64{16, 16, 16, 16}, MergeWeights: true,
	}
}

// Architecture implements Network.
func (r *LoRARestormer) Architecture() string { return LoRARestormerName }

func (r *LoRARestormer) check() error {
	if err := all(r.Restormer.check(), length("r", r.Ranks, 4), length("lora_alpha", r.Alphas, 4)); err != nil {
		return err
	}
	return within("r", maxWidth, r.Ranks...)
}

// Build implements Network. Unmerged keeps the adapters of dense convolutions
// as low-rank branches; those of depthwise convolutions and of the projections
// that are folded into the attention are always merged.
func (r *LoRARestormer) Build(src weights.Source, n, h, w int, opt Options) (*graph.Graph, error) {
	return r.build(newLoader(LoRARestormerName, src, opt), loraConvs{r}, n, h, w, opt)
}

type loraConvs struct{ *LoRARestormer }

// adapter loads a convolution's base weight and factors. dims are those of the
// weight, [Cout, Cin/groups, k, k]. Without weights the adapter is nil.
func (c loraConvs) adapter(l *loader, path string, level int, dims []int) (base *graph.Param, rank int, ad *weights.LoRA) {
	if l.Err() != nil { // dims may come from a tensor that is none
		return graph.NewParam(path, dims, nil, nil), 0, nil
	}
	r, k := c.Ranks[level], dims[2]
	groups := 1
	if dims[1] == 1 && k > 1 { // depthwise
		groups = dims[0]
	}
	base = l.param(path+".conv.weight", dims...)
	l.param(path+".lora_A", r*k, dims[1]*groups*k)
	l.param(path+".lora_B", dims[0]/groups*k, r*k)
	rank = k * r * k // of the low-rank form
	if l.src == nil {
		return base, rank, nil
	}
	ad, err := weights.LoadLoRA(l.src, path, c.Alphas[level])
	if err != nil {
		l.Fail(err)
		return base, rank, nil
	}
	return base, rank, ad
}

// bias is the base convolution's own: adapters have none.
func (c loraConvs) bias(path string) string { return path + ".conv.bias" }

func (c loraConvs) merged(l *loader, path string, level int, dims ...int) *graph.Param {
	base, _, ad := c.adapter(l, path, level, dims)
	if ad == nil {
		return base
	}
	t, err := ad.MergedTensor(path + ".weight")
	if err != nil {
		l.Fail(err)
		return base
	}
	return graph.NewParam(t.Name, dims, storedKey{t.StorageKey(), fmt.Sprint(dims)}, t.ReadFloat32)
}

func (c loraConvs) weight(l *loader, path string, level int, dims ...int) (*graph.Param, *graph.LowRank) {
	if !l.unmerged {
		return c.merged(l, path, level, dims...), nil
	}
	base, rank, ad := c.adapter(l, path, level, dims)
	factor := func(name string, dims []int, pick func(*weights.LowRank) []float32) *graph.Param {
		if ad == nil {
			return graph.NewParam(name, dims, nil, nil)
		}
		key := derivedKey{how: "low rank " + name}
		key.from[0], key.from[1] = ad.A.StorageKey(), ad.B.StorageKey()
		key.from[2] = ad.Scale
		return graph.NewParam(name, dims, key, func(dst []float32) error {
			lr, err := ad.LowRank()
			if err == nil {
				copy(dst, pick(lr))
			}
			return err
		})
	}
	return base, &graph.LowRank{
		Down:  factor(path+".lora_A", []int{rank, dims[1], dims[2], dims[2]}, func(lr *weights.LowRank) []float32 { return lr.Down }),
		Up:    factor(path+".lora_B", []int{dims[0], rank}, func(lr *weights.LowRank) []float32 { return lr.Up }),
		Scale: 1, // in Up
	}
}
