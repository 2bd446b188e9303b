package convert

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/weights"
	"unirestorer/weights/weightstest"
)

// open writes a checkpoint and opens it.
func open(t testing.TB, specs []weightstest.Spec) weights.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.pth")
	require.NoError(t, weightstest.WriteSparseCheckpoint(path, "params", specs))
	f, err := weights.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

// hints are those of the little pool, whose heads are narrow.
var hints = Hints{HeadWidth: 4}

// without drops the tensors whose names start with any of the prefixes.
func without(specs []weightstest.Spec, prefixes ...string) (rest []weightstest.Spec) {
next:
	for _, s := range specs {
		for _, p := range prefixes {
			if strings.HasPrefix(s.Name, p) {
				continue next
			}
		}
		rest = append(rest, s)
	}
	return rest
}

func TestLittlePoolConverts(t *testing.T) {
	specs := little.checkpoint(t)
	f := open(t, specs)
	plan, err := New(context.Background(), f, nil, hints)
	require.NoError(t, err)
	requireReleasedPool(t, little, plan.Config)
	require.Len(t, plan.Config.Tree.Levels, 3)
	require.Equal(t, len(specs), len(plan.Tensors)+len(plan.Unused), "every tensor is either used or listed")
	for _, name := range plan.Unused {
		_, err := f.Tensor(name)
		require.NoError(t, err)
	}

	dir := filepath.Join(t.TempDir(), "model")
	last := 0
	sum, err := plan.Write(context.Background(), dir, weights.FolderOptions{}, func(done, all int) {
		require.Equal(t, last+1, done)
		require.Equal(t, len(plan.Tensors), all)
		last = done
	})
	require.NoError(t, err)
	require.Equal(t, len(plan.Tensors), last)
	require.Equal(t, len(plan.Tensors), sum.Tensors+sum.Aliases)
	require.Greater(t, sum.Aliases, sum.Tensors, "zeros of one shape are stored once")
	folder, err := weights.OpenFolder(dir)
	require.NoError(t, err)
	defer folder.Close()
	c, err := models.ParseConfig(folder.Config())
	require.NoError(t, err)
	requireReleasedPool(t, little, c)
	for i := range c.Experts {
		_, err := c.BuildExpert(folder, i, 1, 32, 32, models.Options{})
		require.NoError(t, err)
	}
}

func TestEncoderComesFromDACLIPOnlyWhereTheModelHasNone(t *testing.T) {
	specs := little.checkpoint(t)
	var own []weightstest.Spec
	for _, s := range specs {
		if rest, ok := strings.CutPrefix(s.Name, encoderPrefix); ok && s.SameAs == "" {
			s.Name = rest
			if rest == "visual_control.proj" {
				fill(&s, 1, 1)
			}
			own = append(own, s)
		}
	}
	bare := open(t, without(specs, encoderPrefix))
	_, err := New(context.Background(), bare, nil, hints)
	require.ErrorContains(t, err, "the checkpoint holds no degradation encoder; give DA-CLIP's checkpoint as well")
	require.ErrorIs(t, err, fs.ErrNotExist)

	proj := func(model, daclip weights.Source) float32 {
		plan, err := New(context.Background(), model, daclip, hints)
		require.NoError(t, err)
		x, err := plan.Source().Tensor("daclip_model.visual_control.proj")
		require.NoError(t, err)
		v, err := x.Float32()
		require.NoError(t, err)
		return v[0]
	}
	daclip := open(t, own)
	require.NotZero(t, proj(bare, daclip))
	require.Zero(t, proj(open(t, specs), daclip), "the model's own encoder overrides DA-CLIP's")
}

func TestIncompleteCheckpointsAreRefusedByName(t *testing.T) {
	specs := little.checkpoint(t)
	for _, c := range []struct{ missing, want string }{
		{"mu.0.weight", "router: "},
		{"mu.4.weight", "mu.4.weight"},
		{"lf_gate.0.weight", "lf_gate.0.weight"},
		{"l0_experts.0.", "l0_experts.0: the tensors belong to no known architecture"},
		{"l2_experts.13.", "l2_experts.13: "},
		{"l1_experts.4.layer3.blocks.1.attn.attn.meta.0.bias", "l1_experts.4.layer3.blocks.1.attn.attn.meta.0.bias"},
		{"l2_experts.4.latent.0.attn.qkv.lora_B", "l2_experts.4.latent.0.attn.qkv.lora_B"},
		{"daclip_model.visual_control.ln_post.weight", "visual_control.ln_post.weight"},
		{"daclip_model.visual_control.positional_embedding", "degradation encoder: "},
	} {
		t.Run(c.missing, func(t *testing.T) {
			rest := without(specs, c.missing)
			require.Less(t, len(rest), len(specs))
			_, err := New(context.Background(), open(t, rest), nil, hints)
			require.ErrorContains(t, err, c.want)
		})
	}
	// What inference does not read may be missing.
	_, err := New(context.Background(), open(t, without(specs, "l2_experts.22.", "daclip_model.clip.", "daclip_model.visual.", "gamma", "beta", "mean", "std")), nil, hints)
	require.NoError(t, err)
}

func TestMisshapenTensorsAreRefusedByName(t *testing.T) {
	specs := little.checkpoint(t)
	for _, c := range []struct {
		name  string
		shape []int
		want  string
	}{
		{"lf_gate.0.weight", []int{42, 8}, "gates for 21 leaves and 3 levels; the released tree has 22 and 3"},
		{"l0_experts.0.latent.0.attn.project_out.weight", []int{32, 31, 1, 1}, "l0_experts.0.latent.0.attn.project_out.weight"},
		{"mu.9.running_mean", []int{9}, "mu.9.running_mean"},
		{"daclip_model.visual_control.positional_embedding", []int{7, 8}, "7 positions are no square grid and a class token"},
		{"l0_experts.0.patch_embed.proj.weight", []int{}, `l0_experts.0: restormer: tensor "patch_embed.proj.weight" has shape []`},
		{"l0_experts.0.encoder_level2.0.ffn.project_in.weight", []int{200, 8, 1, 1}, "no expansion factor turns widths"},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := append([]weightstest.Spec(nil), specs...)
			for i := range changed {
				if changed[i].Name == c.name {
					changed[i].Shape = c.shape
				}
			}
			_, err := New(context.Background(), open(t, changed), nil, hints)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// withAdapters gives the LoRA experts of the little pool values: those of
// expert 0 plus, in experts saved merged, the adapter's product.
func withAdapters(t *testing.T, merged map[int]bool) []weightstest.Spec {
	specs := little.checkpoint(t)
	at := map[string]int{}
	for i, s := range specs {
		at[s.Name] = i
	}
	for i := range specs {
		base := "l0_experts.0."
		if rest, ok := strings.CutPrefix(specs[i].Name, base); ok && strings.HasSuffix(rest, ".weight") && len(specs[i].Shape) == 4 {
			fill(&specs[i], uint64(i), 0.2)
			for e := 11; e <= 14; e++ {
				j, ok := at[prefixOf(e)+strings.TrimSuffix(rest, ".weight")+".conv.weight"]
				require.True(t, ok)
				specs[j].Data = specs[i].Data
			}
		}
	}
	for e := 11; e <= 14; e++ {
		var modules []string
		for i := range specs {
			if module, ok := strings.CutSuffix(specs[i].Name, ".lora_A"); ok && strings.HasPrefix(module, prefixOf(e)) {
				modules = append(modules, module)
				fill(&specs[i], uint64(1000+i), 0.1)
				fill(&specs[at[module+".lora_B"]], uint64(2000+i), 0.1)
			}
		}
		if !merged[e] {
			continue
		}
		src := open(t, specs)
		for _, module := range modules {
			a, err := src.Tensor(module + ".lora_A")
			require.NoError(t, err)
			base, err := src.Tensor(module + ".conv.weight")
			require.NoError(t, err)
			l, err := weights.LoadLoRA(src, module, float64(2*a.Shape[0]/base.Shape[2]))
			require.NoError(t, err)
			x, err := l.MergedTensor("merged")
			require.NoError(t, err)
			data, release, err := x.Raw()
			require.NoError(t, err)
			specs[at[module+".conv.weight"]].Data = append([]byte(nil), data...)
			release()
		}
	}
	return specs
}

func TestAdaptersAreMergedExactlyOnce(t *testing.T) {
	f := open(t, withAdapters(t, map[int]bool{12: true}))
	plan, err := New(context.Background(), f, nil, hints)
	require.NoError(t, err)
	c := plan.Config
	for _, e := range []int{11, 13, 14} {
		require.Equal(t, models.LoRARestormerName, c.Experts[e].Architecture)
		require.NotNil(t, c.Experts[e].Base, "expert %d", e)
		require.Zero(t, *c.Experts[e].Base)
	}
	require.Equal(t, models.RestormerName, c.Experts[12].Architecture, "an expert saved merged is a plain Restormer")
	require.Nil(t, c.Experts[12].Base)
	require.Equal(t, []string{"fine 4: adapters of coarse 0 are merged in the checkpoint already"}, c.Provenance.Notes)

	const module = "encoder_level1.0.attn.qkv"
	stored, err := f.Tensor(prefixOf(12) + module + ".conv.weight")
	require.NoError(t, err)
	want, err := stored.Float32()
	require.NoError(t, err)
	kept, err := plan.Source().Tensor(prefixOf(12) + module + ".weight")
	require.NoError(t, err)
	got, err := kept.Float32()
	require.NoError(t, err)
	require.Equal(t, want, got)
	_, err = plan.Source().Tensor(prefixOf(12) + module + ".lora_A")
	require.ErrorIs(t, err, fs.ErrNotExist)

	// On disk the un-merged experts share their base with expert 0.
	dir := filepath.Join(t.TempDir(), "model")
	_, err = plan.Write(context.Background(), dir, weights.FolderOptions{}, nil)
	require.NoError(t, err)
	folder, err := weights.OpenFolder(dir)
	require.NoError(t, err)
	defer folder.Close()
	key := func(name string) weights.StorageKey {
		x, err := folder.Tensor(name)
		require.NoError(t, err)
		return x.StorageKey()
	}
	require.Equal(t, key("l0_experts.0."+module+".weight"), key(prefixOf(11)+module+".conv.weight"))
	require.NotEqual(t, key("l0_experts.0."+module+".weight"), key(prefixOf(12)+module+".weight"))
}

func TestUnknownBaseIsNotedAndTakenAsUnmerged(t *testing.T) {
	specs := withAdapters(t, nil)
	for i := range specs {
		if strings.HasPrefix(specs[i].Name, prefixOf(13)) && strings.HasSuffix(specs[i].Name, ".conv.weight") {
			fill(&specs[i], uint64(i), 0.3)
		}
	}
	plan, err := New(context.Background(), open(t, specs), nil, hints)
	require.NoError(t, err)
	require.Equal(t, models.LoRARestormerName, plan.Config.Experts[13].Architecture)
	require.Nil(t, plan.Config.Experts[13].Base)
	require.Len(t, plan.Config.Provenance.Notes, 1)
	require.Contains(t, plan.Config.Provenance.Notes[0], "fine 5: the base of the adapters is none of the pool's experts")
}

func TestCancelledConversionLeavesNothing(t *testing.T) {
	plan, err := New(context.Background(), open(t, little.checkpoint(t)), nil, hints)
	require.NoError(t, err)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	_, err = plan.Write(ctx, filepath.Join(dir, "model"), weights.FolderOptions{}, func(done, all int) {
		if done == all/2 {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)

	_, err = New(ctx, open(t, withAdapters(t, nil)), nil, hints)
	require.ErrorIs(t, err, context.Canceled)
}

func TestConfigurationOfThePlanIsWrittenAsItIs(t *testing.T) {
	plan, err := New(context.Background(), open(t, little.checkpoint(t)), nil, hints)
	require.NoError(t, err)
	plan.Config.Tree.Leaves[3].Kinds = []string{"rain"}
	dir := filepath.Join(t.TempDir(), "model")
	_, err = plan.Write(context.Background(), dir, weights.FolderOptions{}, nil)
	require.NoError(t, err)
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	require.NoError(t, err)
	want, err := json.Marshal(plan.Config)
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(raw))
	_, err = plan.Write(context.Background(), dir, weights.FolderOptions{}, nil)
	require.ErrorIs(t, err, fs.ErrExist, "a model is not replaced unasked")
}

func TestPrefixesOfTrainingProgramsDoNotMatterToPools(t *testing.T) {
	specs := little.checkpoint(t)
	for i := range specs {
		fill(&specs[i], uint64(i), 0.1)
		if specs[i].DType == weights.I64 {
			specs[i].Data = make([]byte, 8*elems(specs[i]))
		}
	}
	for _, prefix := range []string{"net_g.", "_orig_mod.module."} {
		src := weights.NewMap()
		for _, s := range specs {
			x, err := weights.NewTensor(prefix+s.Name, s.DType, s.Shape, s.Data)
			require.NoError(t, err)
			src.Set(x)
		}
		plan, err := New(context.Background(), src, nil, hints)
		require.NoError(t, err)
		require.Len(t, plan.Config.Experts, 30)
		for _, x := range plan.Tensors {
			require.NotContains(t, x.Name, prefix)
		}
	}
	_, err := New(context.Background(), weights.NewMap(), nil, Hints{LoRAScale: 1e9})
	require.ErrorContains(t, err, "a LoRA scale of 1e+09")
}
