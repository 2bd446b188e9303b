package models

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/reference"
	"unirestorer/weights"
)

const batchArgs = `{"dim":4,"num_blocks":[1,1,1,1],"num_refinement_blocks":0,"heads":[1,2,2,4]`

// batchMembers are adapters of ranks 1 and 2 of one base, and the base itself.
// The first adapter has the base's normalisations.
func batchMembers(t *testing.T) []Member {
	t.Helper()
	plain := network(t, RestormerName, batchArgs+`}`)
	base := weightsOf(t, plain, 1)
	members := []Member{{plain, base}}
	for i, args := range []string{`,"r":[1,1,1,1],"lora_alpha":[1,1,1,1]}`, `,"r":[2,2,2,2],"lora_alpha":[4,4,4,4]}`} {
		net := network(t, LoRARestormerName, batchArgs+args)
		own := weightsOf(t, net, uint64(2+i))
		for _, name := range own.Names() {
			stored, isBase := name, false
			if module, ok := strings.CutSuffix(name, ".conv.weight"); ok {
				stored, isBase = module+".weight", true
			}
			factor := strings.HasSuffix(name, ".lora_A") || strings.HasSuffix(name, ".lora_B")
			if factor || !isBase && i > 0 {
				continue
			}
			x, err := base.Tensor(stored)
			require.NoError(t, err)
			own.Set(x.WithName(name))
		}
		members = append(members, Member{net, own})
	}
	return members
}

func TestBatchOfDifferentAdaptersEqualsEachImageAlone(t *testing.T) {
	members := batchMembers(t)
	const h, w = 13, 18
	for _, opt := range []Options{{}, {Unmerged: true}} {
		for _, choice := range [][]int{{1, 2, 0, 1}, {2, 1}, {1, 1, 1}, {0}} {
			g, err := BuildBatch(members, choice, h, w, opt)
			require.NoError(t, err)
			x := images(5, len(choice), h, w)
			got, err := reference.Run(g, [][]float32{x})
			require.NoError(t, err)
			part := len(x) / len(choice)
			for i, c := range choice {
				one := run(t, members[c].Network, members[c].Source, 1, h, w, x[i*part:(i+1)*part], opt)
				require.Equal(t, one, got[0][i*part:(i+1)*part], "%v: image %d", choice, i)
			}
		}
	}
}

// A batch for one adapter is the ordinary graph, and what adapters have in
// common stays one node for the batch.
func TestBatchSharesWhatAdaptersHaveInCommon(t *testing.T) {
	members := batchMembers(t)
	each := func(choice ...int) (split, branched, nodes int, macs int64) {
		g, err := BuildBatch(members, choice, 16, 16, Options{Unmerged: true})
		require.NoError(t, err)
		for _, n := range g.Nodes {
			switch op := n.Op.(type) {
			case *graph.EachImage:
				split++
			case *graph.Conv:
				if op.LowRanks != nil {
					branched++
				}
			}
		}
		return split, branched, len(g.Nodes), g.Cost().MACs
	}
	split, branched, nodes, macs := each(1, 1)
	require.Zero(t, split+branched)
	ownNorms, withoutNorms, mixedNodes, mixedMACs := each(1, 2)
	require.Equal(t, nodes, mixedNodes)
	require.Equal(t, macs, mixedMACs, "as the network is defined")
	require.NotZero(t, withoutNorms)
	// The first adapter has the base's normalisations: only what is always
	// merged differs by more than the branch.
	sameNorms, allBranched, _, _ := each(1, 0)
	require.Greater(t, allBranched, withoutNorms)
	require.Equal(t, ownNorms+withoutNorms, sameNorms+allBranched)
	for path, op := range map[string]graph.Op{"encoder_level1.0.attn.qkv": &graph.Conv{}, "encoder_level1.0.attn.qkv_dwconv": &graph.EachImage{}} {
		g, err := BuildBatch(members, []int{1, 0}, 16, 16, Options{Unmerged: true})
		require.NoError(t, err)
		i := slices.IndexFunc(g.Nodes, func(n *graph.Node) bool { return n.Name == path })
		require.IsType(t, op, g.Nodes[i].Op, path)
	}
}

func TestBatchRefusesWhatIsNotOfOneStructure(t *testing.T) {
	members := batchMembers(t)
	other := network(t, RestormerName, `{"dim":8,"num_blocks":[1,1,1,1],"num_refinement_blocks":0,"heads":[1,2,2,4]}`)
	deeper := network(t, RestormerName, `{"dim":4,"num_blocks":[2,1,1,1],"num_refinement_blocks":0,"heads":[1,2,2,4]}`)
	for _, c := range []struct {
		members []Member
		choice  []int
		opt     Options
		want    string
	}{
		{append(members, Member{other, weightsOf(t, other, 1)}), []int{0, 3}, Options{}, "graph 3"},
		{append(members, Member{deeper, weightsOf(t, deeper, 1)}), []int{0, 3}, Options{}, "another network"},
		{members, []int{0, 3}, Options{}, "image 1: graph 3 is not one of 3"},
		{members, []int{-1}, Options{}, "image 0: graph -1"},
		{members, nil, Options{}, ""},
		{nil, []int{0}, Options{}, "no graphs"},
		{members, []int{0, 1}, Options{Switchable: true}, "switchable"},
	} {
		_, err := BuildBatch(c.members, c.choice, 16, 16, c.opt)
		require.ErrorContains(t, err, c.want)
	}
}

func TestBatchOfAPoolTakesEveryExpertFromItsPrefix(t *testing.T) {
	members := batchMembers(t)
	c, all := &Config{}, weights.NewMap()
	for i, m := range members {
		args, err := json.Marshal(m.Network)
		require.NoError(t, err)
		prefix := string(rune('a'+i)) + "."
		c.Experts = append(c.Experts, ExpertConfig{Architecture: m.Network.Architecture(), Args: args, Prefix: prefix})
		for _, name := range m.Source.Names() {
			x, err := m.Source.Tensor(name)
			require.NoError(t, err)
			all.Set(x.WithName(prefix + name))
		}
	}
	x := images(5, 3, 16, 16)
	want, err := BuildBatch(members, []int{2, 0, 2}, 16, 16, Options{Unmerged: true})
	require.NoError(t, err)
	got, err := c.BuildBatch(all, []int{2, 0, 2}, 16, 16, Options{Unmerged: true})
	require.NoError(t, err)
	wanted, err := reference.Run(want, [][]float32{x})
	require.NoError(t, err)
	have, err := reference.Run(got, [][]float32{x})
	require.NoError(t, err)
	require.Equal(t, wanted, have)
	_, err = c.BuildBatch(all, []int{0, 3}, 16, 16, Options{})
	require.ErrorContains(t, err, "image 1: expert 3")
}
