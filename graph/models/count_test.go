package models

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// The figures are those of the upstream modules at their released sizes,
// counted at 256×256 by hooks on PyTorch's layers.
func TestReleasedSizesAgreeWithUpstream(t *testing.T) {
	for _, c := range []struct {
		name, arch, args string
		params           int64
		tensors          int
		gmacs, attention string
	}{
		{"Restormer WithBias", RestormerName, ``, 26_126_644, 494, "140.990", "13.892"},
		{"Restormer BiasFree", RestormerName, `{"LayerNorm_type":"BiasFree"}`, 26_111_668, 406, "140.990", "13.892"},
		{"PromptIR", promptIRName, ``, 35_592_263, 548, "158.141", "14.565"},
		{"AirNet", airNetName, ``, 8_930_313, 566, "414.464", "0.000"},
		{"LoRARestormer", LoRARestormerName, ``, 31_771_300, 1042, "140.990", "13.892"},
		{"DehazeFormer-L", DehazeFormerName, ``, 25_451_652, 1004, "274.875", "4.745"},
		{"RetinexFormer", RetinexFormerName, ``, 1_605_701, 122, "15.713", "0.944"},
		{"NAFNetLocal", NAFNetLocalName, `{"width":64,"enc_blk_nums":[1,1,1,28],"middle_blk_num":1,"dec_blk_nums":[1,1,1,1]}`, 67_888_835, 664, "63.055", "0.000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, err := New(c.arch, json.RawMessage(c.args))
			require.NoError(t, err)
			specs, err := Stored(n)
			require.NoError(t, err)
			require.Equal(t, c.params, CountParams(specs))
			require.Len(t, specs, c.tensors)
			g, err := n.Build(nil, 1, 256, 256, Options{})
			require.NoError(t, err)
			require.Equal(t, c.gmacs, giga(g.Cost().MACs))
			require.Equal(t, c.attention, giga(g.Cost().AttentionMACs))
		})
	}
}

func TestEstimatorAgreesWithUpstream(t *testing.T) {
	d, err := NewDACLIP(nil)
	require.NoError(t, err)
	specs, err := d.Stored()
	require.NoError(t, err)
	require.Equal(t, int64(94_936_320), CountParams(specs))
	require.Len(t, specs, 176)
	r, err := NewRouter(Router{Width: 512, Leaves: 22, Levels: 3})
	require.NoError(t, err)
	routerSpecs, err := r.Stored()
	require.NoError(t, err)
	require.Equal(t, int64(2_649_090), CountParams(routerSpecs))
	require.Len(t, routerSpecs, 26)

	g, err := d.Build(nil, 1, Options{})
	require.NoError(t, err)
	require.Equal(t, "4.717", giga(g.Cost().MACs+d.ZeroModuleMACs()))
	require.Equal(t, "0.046", giga(g.Cost().AttentionMACs))
	rg, err := r.Build(nil, 1, Options{})
	require.NoError(t, err)
	require.Equal(t, "0.003", giga(rg.Cost().MACs))
}

func giga(n int64) string {
	return fmt.Sprintf("%.3f", float64(n)/1e9)
}
