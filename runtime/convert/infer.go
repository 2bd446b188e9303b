package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"unirestorer/graph/models"
	"unirestorer/weights"
)

// Hints give the constructor arguments that a checkpoint does not store. The
// zero value stands for the released model.
type Hints struct {
	// LoRAScale is alpha/r of LoRA experts; 0 means 2.
	LoRAScale float64
	// TrainSize is the side of NAFNetLocal's training patches; 0 means 256.
	TrainSize int
	// HeadWidth is the number of channels of an attention head of the
	// degradation encoder; 0 means 64.
	HeadWidth int
	// Args overrides the arguments of architectures, by name, with any of their
	// JSON arguments.
	Args map[string]json.RawMessage
}

func (h Hints) withDefaults() Hints {
	if h.LoRAScale == 0 {
		h.LoRAScale = 2
	}
	if h.TrainSize == 0 {
		h.TrainSize = 256
	}
	if h.HeadWidth == 0 {
		h.HeadWidth = 64
	}
	return h
}

// shapes looks tensors' shapes up; the first missing or odd one sticks.
type shapes struct {
	src weights.Source
	err error
}

func (s *shapes) has(name string) bool {
	_, err := s.src.Tensor(name)
	return err == nil
}

// dim is dimension i of a tensor.
func (s *shapes) dim(name string, i int) int {
	t, err := s.src.Tensor(name)
	if err == nil && (i >= len(t.Shape) || t.Shape[i] <= 0) {
		err = fmt.Errorf("tensor %q has shape %v", name, t.Shape)
	}
	if err != nil {
		if s.err == nil {
			s.err = err
		}
		return 1
	}
	return t.Shape[i]
}

// count is the number of consecutive indices from 0 for which pattern, with
// the index filled in, is a tensor.
func (s *shapes) count(pattern string, args ...any) int {
	for n := 0; ; n++ {
		if !s.has(fmt.Sprintf(pattern, append(slices.Clone(args), n)...)) {
			return n
		}
	}
}

// expert finds out which network a set of tensors is, and its arguments.
func expert(src weights.Source, h Hints) (arch string, args json.RawMessage, err error) {
	s := &shapes{src: src}
	var found any
	switch {
	case s.has("patch_embed.proj.lora_A"):
		arch, found = models.LoRARestormerName, s.loraRestormer(h)
	case s.has("encoder_level1.0.attn.temperature"):
		arch, found = models.RestormerName, s.restormer("")
	case s.has("intro.weight"):
		arch, found = models.NAFNetLocalName, s.nafnetLocal(h)
	case s.has("patch_merge1.proj.weight"):
		arch, found = models.DehazeFormerName, s.dehazeFormer()
	case s.has("body.0.denoiser.embedding.weight"):
		arch, found = models.RetinexFormerName, s.retinexFormer()
	default:
		return "", nil, errors.New("the tensors belong to no known architecture")
	}
	if s.err != nil {
		return "", nil, fmt.Errorf("%s: %w", arch, s.err)
	}
	args, err = merged(found, h.Args[arch])
	return arch, args, err
}

// merged is the JSON of args with the fields of override in place of its own.
func merged(args any, override json.RawMessage) (json.RawMessage, error) {
	b, err := json.Marshal(args)
	if err != nil || len(override) == 0 {
		return b, err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &fields); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(override, &fields); err != nil {
		return nil, fmt.Errorf("argument overrides: %w", err)
	}
	return json.Marshal(fields)
}

// restormer reads the arguments off the shapes; infix stands between a
// convolution's path and "weight".
func (s *shapes) restormer(infix string) models.Restormer {
	conv := func(path string) string { return path + infix + ".weight" }
	dim := s.dim(conv("patch_embed.proj"), 0)
	r := models.Restormer{
		InChannels: 3, OutChannels: 3, Dim: dim, LayerNorm: "BiasFree",
		RefinementBlocks: s.count("refinement.%d.attn.temperature"),
		Bias:             s.has("output" + infix + ".bias"),
	}
	if s.has("encoder_level1.0.norm1.body.bias") {
		r.LayerNorm = "WithBias"
	}
	var hidden, width []int
	for i, level := range []string{"encoder_level1", "encoder_level2", "encoder_level3", "latent"} {
		r.NumBlocks = append(r.NumBlocks, s.count(level+".%d.attn.temperature"))
		r.Heads = append(r.Heads, s.dim(level+".0.attn.temperature", 0))
		width = append(width, dim<<i)
		hidden = append(hidden, s.dim(conv(level+".0.ffn.project_in"), 0)/2)
	}
	var err error
	if r.Expansion, err = expansion(width, hidden); err != nil && s.err == nil {
		s.err = err
	}
	return r
}

// expansion is the shortest decimal f with int(width·f) = hidden at every
// level.
func expansion(width, hidden []int) (float64, error) {
	least := 0.0
	for i, w := range width {
		least = max(least, float64(hidden[i])/float64(w))
	}
	for digits := range 16 {
		scale := math.Pow(10, float64(digits))
		// The product of the first candidate and a width may round to just below
		// an integer.
		first := math.Ceil(least*scale - 1e-9)
		for _, n := range [2]float64{first, first + 1} {
			f, err := strconv.ParseFloat(strconv.FormatFloat(n/scale, 'f', digits, 64), 64)
			if err != nil {
				return 0, err
			}
			if expands(width, hidden, f) {
				return f, nil
			}
		}
	}
	return 0, fmt.Errorf("no expansion factor turns widths %v into %v", width, hidden)
}

func expands(width, hidden []int, f float64) bool {
	for i, w := range width {
		if int(float64(w)*f) != hidden[i] {
			return false
		}
	}
	return true
}

func (s *shapes) loraRestormer(h Hints) models.LoRARestormer {
	l := models.LoRARestormer{Restormer: s.restormer(".conv"), MergeWeights: true}
	// One convolution of each rank level, with its kernel size.
	for _, conv := range []struct {
		path string
		k    int
	}{
		{"patch_embed.proj", 3}, {"encoder_level2.0.attn.qkv", 1}, {"encoder_level3.0.attn.qkv", 1}, {"latent.0.attn.qkv", 1},
	} {
		r := s.dim(conv.path+".lora_A", 0) / conv.k
		l.Ranks = append(l.Ranks, r)
		l.Alphas = append(l.Alphas, h.LoRAScale*float64(r))
	}
	return l
}

func (s *shapes) nafnetLocal(h Hints) models.NAFNet {
	n := models.NAFNet{
		Channels: 3, Width: s.dim("intro.weight", 0), MiddleNum: s.count("middle_blks.%d.conv1.weight"),
		TrainSize: []int{1, 3, h.TrainSize, h.TrainSize},
		EncNums:   []int{}, DecNums: []int{},
	}
	levels := s.count("downs.%d.weight")
	for i := range levels {
		n.EncNums = append(n.EncNums, s.count("encoders.%d.%d.conv1.weight", i))
		n.DecNums = append(n.DecNums, s.count("decoders.%d.%d.conv1.weight", i))
	}
	return n
}

func (s *shapes) dehazeFormer() models.DehazeFormer {
	d := models.DehazeFormer{InChannels: 3, OutChannels: s.dim("patch_unembed.proj.0.weight", 0), Window: 8}
	for i := 1; i <= 5; i++ {
		layer := fmt.Sprintf("layer%d.blocks.", i)
		depth := s.count(layer + "%d.mlp.mlp.0.weight")
		width := s.dim(layer+"0.mlp.mlp.0.weight", 1)
		attending, heads := 0, 1
		for b := range depth {
			if block := layer + strconv.Itoa(b); s.has(block + ".attn.QK.weight") {
				attending++
				heads = s.dim(block+".attn.attn.meta.2.weight", 0)
				if positions := block + ".attn.attn.relative_positions"; s.has(positions) {
					d.Window = int(math.Round(math.Sqrt(float64(s.dim(positions, 0)))))
				}
			}
		}
		d.Depths = append(d.Depths, depth)
		d.EmbedDims = append(d.EmbedDims, width)
		d.Heads = append(d.Heads, heads)
		ratio, err := expansion([]int{width}, []int{s.dim(layer+"0.mlp.mlp.0.weight", 0)})
		if err != nil && s.err == nil {
			s.err = err
		}
		d.MLPRatios = append(d.MLPRatios, ratio)
		d.AttnRatio = append(d.AttnRatio, attentionRatio(attending, depth))
		d.ConvType = append(d.ConvType, "Conv")
	}
	return d
}

// attentionRatio is the ratio for which the network's rule, that block i of
// depth attends if i ≥ depth-ratio·depth, makes the last attending blocks
// attend. The quotient itself may round to one block less.
func attentionRatio(attending, depth int) float64 {
	if depth == 0 {
		return 0
	}
	d := float64(depth)
	ratio := float64(attending) / d
	for float64(depth-attending) < d-ratio*d {
		ratio = math.Nextafter(ratio, 1)
	}
	return ratio
}

func (s *shapes) retinexFormer() models.RetinexFormer {
	const path = "body.0.denoiser."
	blocks := func(p string) int { return s.count(path + p + ".blocks.%d.0.to_q.weight") }
	return models.RetinexFormer{
		InChannels: 3, OutChannels: 3, Features: s.dim(path+"embedding.weight", 0), Stage: 1 + s.stages(),
		NumBlocks: []int{blocks("encoder_layers.0.0"), blocks("encoder_layers.1.0"), blocks("bottleneck")},
	}
}

// stages counts RetinexFormer's stages after the first.
func (s *shapes) stages() int {
	n := 0
	for s.has(fmt.Sprintf("body.%d.denoiser.embedding.weight", n+1)) {
		n++
	}
	return n
}

// encoder reads the degradation encoder's arguments off the shapes.
func encoder(src weights.Source, h Hints) (json.RawMessage, error) {
	s := &shapes{src: src}
	var d models.DACLIP
	const path = "visual_control."
	d.EmbedDim = s.dim(path+"proj", 1)
	d.Vision.Width = s.dim(path+"conv1.weight", 0)
	d.Vision.PatchSize = s.dim(path+"conv1.weight", 2)
	d.Vision.Layers = s.count(path + "transformer.transformer.resblocks.%d.ln_1.weight")
	d.Vision.HeadWidth = h.HeadWidth
	tokens := s.dim(path+"positional_embedding", 0)
	grid := int(math.Round(math.Sqrt(float64(tokens - 1))))
	d.Vision.ImageSize = grid * d.Vision.PatchSize
	if s.err == nil && grid*grid+1 != tokens {
		s.err = fmt.Errorf("%d positions are no square grid and a class token", tokens)
	}
	if s.err != nil {
		return nil, fmt.Errorf("degradation encoder: %w", s.err)
	}
	return merged(d, h.Args[models.DACLIPName])
}
