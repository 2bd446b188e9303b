package models

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// releasedClass is the architecture of each expert of the released pool.
func releasedClass(expert int) (arch, args string) {
	switch {
	case expert == 0, expert >= 15 && expert <= 24:
		return RestormerName, `{}`
	case expert <= 4, expert >= 8 && expert <= 10:
		return RestormerName, `{"LayerNorm_type":"BiasFree"}`
	case expert >= 11 && expert <= 14:
		return LoRARestormerName, `{}`
	case expert == 5, expert == 25, expert == 26:
		return DehazeFormerName, `{}`
	case expert == 6, expert == 27, expert == 28:
		return RetinexFormerName, `{}`
	default:
		return NAFNetLocalName, `{"width":64,"enc_blk_nums":[1,1,1,28],"middle_blk_num":1,"dec_blk_nums":[1,1,1,1]}`
	}
}

func TestReleasedPoolBuildsAndCountsAsUpstream(t *testing.T) {
	var params int64
	for i := range 30 {
		arch, args := releasedClass(i)
		n, err := New(arch, json.RawMessage(args))
		require.NoError(t, err)
		specs, err := Stored(n)
		require.NoError(t, err)
		params += CountParams(specs)
		for _, size := range [][2]int{{256, 256}, {64, 1024}} {
			g, err := n.Build(nil, 1, size[0], size[1], Options{})
			require.NoError(t, err, "expert %d", i)
			require.Positive(t, g.Cost().MACs)
		}
	}
	require.Equal(t, int64(814_209_689), params, "30 experts that the tree reaches")
	_, nafnet := releasedClass(29)
	unused, err := Stored(network(t, NAFNetLocalName, nafnet))
	require.NoError(t, err)
	require.Equal(t, int64(882_098_524), params+CountParams(unused), "all 31 modules")
}
