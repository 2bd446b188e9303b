package models

import (
	"cmp"
	"fmt"
	"strings"

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
	// Dense leaves the factors out where the weight itself has no more values
	// than they would: such a convolution holds its effective weight in place
	// of the base's. Upstream has no such networks; lora extract makes them.
	Dense bool `json:"dense_where_smaller,omitempty"`
}

// LoRARestormerName is LoRARestormer's name in configurations.
const LoRARestormerName = "lora_restormer"

func init() {
	Register(Architecture{
		Name:    LoRARestormerName,
		Default: func() Network { return defaultLoRARestormer() },
		Probes:  []string{"encoder_level1.0.attn.temperature", "patch_embed.proj.lora_A"},
		Infer: func(s *shapes, h Hints) Network {
			l := s.loraRestormer(h)
			return &l
		},
		Sizes: []Size{{Name: "lora_restormer", Args: `{}`, Pool: true}},
		Small: `{"dim":8,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,1,2,2],"r":[2,2,2,2],"lora_alpha":[4,4,4,4]}`,
	})
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
// that are folded into the attention are always merged. Switchable makes all
// parameters but the base convolutions' adapted ones: norms and temperatures
// are trained along with adapters.
func (r *LoRARestormer) Build(src weights.Source, n, h, w int, opt Options) (*graph.Graph, error) {
	l := newLoader(LoRARestormerName, src, opt)
	l.switchable = opt.Switchable && !opt.Unmerged
	return r.build(l, loraConvs{r}, n, h, w, opt)
}

// factors gives the shapes of the factors of a convolution whose weight is of
// dims, [Cout, Cin/groups, k, k], and whether it has them. level is the index of
// its rank.
func (r *LoRARestormer) factors(level int, dims []int) (a, b []int, ok bool) {
	k, groups := dims[2], 1
	if dims[1] == 1 && k > 1 { // depthwise
		groups = dims[0]
	}
	inner := r.Ranks[level] * k
	a, b = []int{inner, dims[1] * groups * k}, []int{dims[0] / groups * k, inner}
	weight := dims[0] * dims[1] * k * k
	return a, b, !r.Dense || weight > inner*(a[1]+b[0])
}

// ScaleOf is alpha/r of the adapter of a convolution, by its module's name.
func (r *LoRARestormer) ScaleOf(module string) (float64, error) {
	level, err := loraLevel(module)
	return r.Alphas[level] / float64(r.Ranks[level]), err
}

// loraLevel is upstream's index of the rank of a module.
func loraLevel(module string) (int, error) {
	part, _, _ := strings.Cut(module, ".")
	switch part {
	case "patch_embed", "encoder_level1", "down1_2", "decoder_level1", "refinement", "output", "skip_conv":
		return 0, nil
	case "encoder_level2", "down2_3", "reduce_chan_level2", "decoder_level2", "up2_1":
		return 1, nil
	case "encoder_level3", "down3_4", "reduce_chan_level3", "decoder_level3", "up3_2":
		return 2, nil
	case "latent", "up4_3":
		return 3, nil
	}
	return 0, fmt.Errorf("module %q is none of a Restormer", module)
}

type loraConvs struct{ *LoRARestormer }

// adapted are a convolution's tensors: the weight and the factors A and B as
// stored, nil for a convolution without them. rank is that of the low-rank
// form, lora its values, nil without weights.
type adapted struct {
	base, a, b *graph.Param
	rank       int
	scale      float32
	lora       *weights.LoRA
}

// adapter loads a convolution. dims are those of the weight,
// [Cout, Cin/groups, k, k].
func (c loraConvs) adapter(l *loader, path string, level int, dims []int) adapted {
	if l.Err() != nil { // dims may come from a tensor that is none
		return adapted{base: graph.NewParam(path, dims, nil, nil)}
	}
	a, b, ok := c.factors(level, dims)
	if !ok {
		return adapted{base: l.param(path+".conv.weight", dims...)}
	}
	ad := adapted{
		base:  l.read(path+".conv.weight", dims, false),
		a:     l.read(path+".lora_A", a, false),
		b:     l.read(path+".lora_B", b, false),
		rank:  dims[2] * a[0],
		scale: float32(c.Alphas[level] / float64(c.Ranks[level])),
	}
	if l.src == nil {
		return ad
	}
	var err error
	if ad.lora, err = weights.LoadLoRA(l.src, path, c.Alphas[level]); err != nil {
		l.Fail(err)
	}
	return ad
}

// bias is the base convolution's own: adapters have none.
func (c loraConvs) bias(path string) string { return path + ".conv.bias" }

func (c loraConvs) merged(l *loader, path string, level int, dims ...int) *graph.Param {
	ad := c.adapter(l, path, level, dims)
	if ad.a == nil {
		return ad.base
	}
	merged := graph.NewParam(path+".weight", dims, nil, nil)
	if ad.lora != nil {
		t, err := ad.lora.MergedTensor(merged.Name)
		if err != nil {
			l.Fail(err)
			return merged
		}
		merged = graph.NewParam(t.Name, dims, storedKey{t.StorageKey(), fmt.Sprint(dims)}, t.ReadFloat32)
	}
	if l.switchable {
		merged.Adapter = &graph.Adapter{Base: ad.base, A: ad.a, B: ad.b, Scale: ad.scale}
	}
	return merged
}

func (c loraConvs) weight(l *loader, path string, level int, dims ...int) (*graph.Param, *graph.LowRank) {
	if !l.unmerged {
		return c.merged(l, path, level, dims...), nil
	}
	ad := c.adapter(l, path, level, dims)
	if ad.a == nil {
		return ad.base, nil
	}
	factor := func(name string, dims []int, pick func(*weights.LowRank) []float32) *graph.Param {
		if ad.lora == nil {
			return graph.NewParam(name, dims, nil, nil)
		}
		key := derivedKey{how: "low rank " + name}
		key.from[0], key.from[1] = ad.lora.A.StorageKey(), ad.lora.B.StorageKey()
		key.from[2] = ad.lora.Scale
		return graph.NewParam(name, dims, key, func(dst []float32) error {
			lr, err := ad.lora.LowRank()
			if err == nil {
				copy(dst, pick(lr))
			}
			return err
		})
	}
	return ad.base, &graph.LowRank{
		Down:  factor(path+".lora_A", []int{ad.rank, dims[1], dims[2], dims[2]}, func(lr *weights.LowRank) []float32 { return lr.Down }),
		Up:    factor(path+".lora_B", []int{dims[0], ad.rank}, func(lr *weights.LowRank) []float32 { return lr.Up }),
		Scale: 1, // in Up
	}
}

// releasedLoRAScale is alpha/r of the released adapters, which no file stores.
const releasedLoRAScale = 2

func (s *shapes) loraRestormer(h Hints) LoRARestormer {
	l := LoRARestormer{Restormer: s.restormer(".conv"), MergeWeights: true}
	// One convolution of each rank level, with its kernel size.
	for _, conv := range []struct {
		path string
		k    int
	}{
		{"patch_embed.proj", 3}, {"encoder_level2.0.attn.qkv", 1}, {"encoder_level3.0.attn.qkv", 1}, {"latent.0.attn.qkv", 1},
	} {
		r := s.dim(conv.path+".lora_A", 0) / conv.k
		l.Ranks = append(l.Ranks, r)
		l.Alphas = append(l.Alphas, cmp.Or(h.LoRAScale, releasedLoRAScale)*float64(r))
	}
	return l
}
