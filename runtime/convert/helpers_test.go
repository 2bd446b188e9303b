package convert

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/weights"
	"unirestorer/weights/weightstest"
)

// sized is a pool like the released one, of any size.
type sized struct {
	dim      int // of Restormers
	dehaze   string
	retinex  string
	nafnet   string
	restorer string // further arguments of Restormers
	encoder  string
	width    int // of the router
}

// released are the arguments of the released checkpoint.
var released = sized{
	dim: 48, width: 512, dehaze: `{}`, retinex: `{}`, encoder: `{}`,
	nafnet: `{"width":64,"enc_blk_nums":[1,1,1,28],"middle_blk_num":1,"dec_blk_nums":[1,1,1,1]}`,
}

// little has the released structure and converts in a moment.
var little = sized{
	dim: 4, restorer: `,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,2,2,4]`, width: 8,
	dehaze:  `{"window_size":4,"embed_dims":[4,8,8,8,4],"depths":[1,2,2,1,1],"num_heads":[1,2,2,1,1],"attn_ratio":[0,0.5,0.5,0,0]}`,
	retinex: `{"n_feat":4,"num_blocks":[1,1,1]}`, nafnet: `{"width":2,"enc_blk_nums":[1],"dec_blk_nums":[1]}`,
	encoder: `{"embed_dim":8,"vision_cfg":{"image_size":16,"layers":1,"width":8,"head_width":4,"patch_size":8}}`,
}

// expertArgs are architecture and arguments of an expert of the pool, which
// counts all 31 modules.
func (p sized) expertArgs(expert int) (arch, args string) {
	restormer := func(extra string) string {
		return fmt.Sprintf(`{"dim":%d%s%s}`, p.dim, p.restorer, extra)
	}
	switch {
	case expert == 0, expert >= 15 && expert <= 24:
		return models.RestormerName, restormer("")
	case expert <= 4, expert >= 8 && expert <= 10:
		return models.RestormerName, restormer(`,"LayerNorm_type":"BiasFree"`)
	case expert >= 11 && expert <= 14:
		return models.LoRARestormerName, restormer("")
	case expert == 5, expert == 25, expert == 26:
		return models.DehazeFormerName, p.dehaze
	case expert == 6, expert == 27, expert == 28:
		return models.RetinexFormerName, p.retinex
	default:
		return models.NAFNetLocalName, p.nafnet
	}
}

// prefixOf is where an expert's tensors are.
func prefixOf(expert int) string {
	switch {
	case expert == 0:
		return "l0_experts.0."
	case expert < 8:
		return fmt.Sprintf("l1_experts.%d.", expert-1)
	default:
		return fmt.Sprintf("l2_experts.%d.", expert-8)
	}
}

// checkpoint lists the tensors of a whole model.pth with this pool: DA-CLIP
// with its text tower and the alias of its visual tower, the router and the 31
// expert modules.
func (p sized) checkpoint(t testing.TB) []weightstest.Spec {
	t.Helper()
	var all []weightstest.Spec
	add := func(name string, dims ...int) {
		d := weights.F32
		if strings.HasSuffix(name, "num_batches_tracked") {
			d = weights.I64
		}
		all = append(all, weightstest.Spec{Name: name, DType: d, Shape: dims})
	}
	encoder, err := models.NewDACLIP(json.RawMessage(p.encoder))
	require.NoError(t, err)
	control, err := encoder.Stored()
	require.NoError(t, err)
	var content []string
	for _, s := range control {
		add("daclip_model."+s.Name, s.Dims...)
		if rest := strings.TrimPrefix(s.Name, "visual_control."); !strings.Contains(rest, "zero_modules") {
			rest = strings.Replace(rest, "transformer.transformer.", "transformer.", 1)
			content = append(content, rest)
			add("daclip_model.clip.visual."+rest, s.Dims...)
		}
	}
	const vocabulary, context, layers = 49408, 77, 12
	w := encoder.EmbedDim
	add("daclip_model.clip.token_embedding.weight", vocabulary, w)
	add("daclip_model.clip.positional_embedding", context, w)
	for i := range layers {
		block := fmt.Sprintf("daclip_model.clip.transformer.resblocks.%d.", i)
		for _, s := range []models.Spec{
			{Name: "ln_1.weight", Dims: []int{w}}, {Name: "ln_1.bias", Dims: []int{w}},
			{Name: "attn.in_proj_weight", Dims: []int{3 * w, w}}, {Name: "attn.in_proj_bias", Dims: []int{3 * w}},
			{Name: "attn.out_proj.weight", Dims: []int{w, w}}, {Name: "attn.out_proj.bias", Dims: []int{w}},
			{Name: "ln_2.weight", Dims: []int{w}}, {Name: "ln_2.bias", Dims: []int{w}},
			{Name: "mlp.c_fc.weight", Dims: []int{4 * w, w}}, {Name: "mlp.c_fc.bias", Dims: []int{4 * w}},
			{Name: "mlp.c_proj.weight", Dims: []int{w, 4 * w}}, {Name: "mlp.c_proj.bias", Dims: []int{w}},
		} {
			add(block+s.Name, s.Dims...)
		}
	}
	add("daclip_model.clip.ln_final.weight", w)
	add("daclip_model.clip.ln_final.bias", w)
	add("daclip_model.clip.text_projection", w, w)
	add("daclip_model.clip.logit_scale")
	add("daclip_model.logit_scale")
	byName := map[string]weightstest.Spec{}
	for _, s := range all {
		byName[s.Name] = s
	}
	for _, rest := range content {
		s := byName["daclip_model.clip.visual."+rest]
		s.SameAs, s.Name = s.Name, "daclip_model.visual."+rest
		all = append(all, s)
	}

	router, err := models.NewRouter(models.Router{Width: p.width, Leaves: 22, Levels: 3})
	require.NoError(t, err)
	specs, err := router.Stored()
	require.NoError(t, err)
	for _, s := range specs {
		add(s.Name, s.Dims...)
	}
	for i := range 31 {
		arch, args := p.expertArgs(i)
		net, err := models.New(arch, json.RawMessage(args))
		require.NoError(t, err)
		specs, err := models.Stored(net)
		require.NoError(t, err)
		for _, s := range specs {
			add(prefixOf(i)+s.Name, s.Dims...)
		}
	}
	return all
}

// elems counts the values of a tensor.
func elems(s weightstest.Spec) int64 {
	n := int64(1)
	for _, d := range s.Shape {
		n *= int64(d)
	}
	return n
}

// fill gives a tensor random values; equal seeds give equal values.
func fill(s *weightstest.Spec, seed uint64, scale float64) {
	rng := rand.New(rand.NewPCG(seed, 5))
	s.Data = make([]byte, 4*elems(*s))
	for i := range elems(*s) {
		binary.LittleEndian.PutUint32(s.Data[4*i:], math.Float32bits(float32(scale*rng.NormFloat64())))
	}
}

// describe is all that shows of a network: its tensors and its work.
func describe(t testing.TB, n models.Network) string {
	t.Helper()
	specs, err := models.Stored(n)
	require.NoError(t, err)
	h, w, err := models.Fit(n, 64, 64)
	require.NoError(t, err)
	g, err := n.Build(nil, 1, h, w, models.Options{})
	require.NoError(t, err)
	return fmt.Sprint(specs, g.Cost(), len(g.Nodes))
}
