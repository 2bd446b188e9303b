package predict

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCardsOfTheDataFileAreWhole(t *testing.T) {
	all, err := All()
	require.NoError(t, err)
	names := map[string]bool{}
	for _, c := range all {
		require.False(t, names[c.Name], c.Name)
		names[c.Name] = true
		require.NotEmpty(t, c.Source)
		loaded, err := Load(c.Name)
		if c.Arch < leastArch {
			require.ErrorContains(t, err, "the kernels do not run on "+c.Title)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c, loaded)
		require.Equal(t, c.Arch/10, c.info().Major)
		// Bytes a cycle that a multiprocessor gets from L2: 10 to 40 on every card known.
		require.InDelta(t, 25, c.L2/c.Clock/float64(c.SMs), 15, c.Name)
		require.GreaterOrEqual(t, c.L2, c.HBM)
	}
	require.True(t, names["t4"] && names["thor"] && names["rtx4070"])
}

func TestACardOfOnesOwn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mine.json")
	write := func(text string) {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o666))
	}
	write(`{"like":"rtx4090","name":"mine","title":"Mine","sms":64,"hbm":5e11,"source":"measured here"}`)
	c, err := Load(file)
	require.NoError(t, err)
	like, err := Find("rtx4090")
	require.NoError(t, err)
	require.Equal(t, 64, c.SMs)
	require.Equal(t, 5e11, c.HBM)
	require.Equal(t, like.Clock, c.Clock)
	require.Equal(t, "Mine", c.Title)
	for text, want := range map[string]string{
		`{"like":"voodoo","name":"m","title":"M","source":"s"}`:       "no such card",
		`{"like":"l4","name":"m","title":"M"}`:                        "source must be given",
		`{"like":"l4","name":"m","title":"M","source":"s","sms":0}`:   "0 sms",
		`{"like":"l4","name":"m","title":"M","source":"s","hbm":-1}`:  "hbm is -1",
		`{"like":"l4","name":"m","title":"M","source":"s","speed":1}`: `unknown field "speed"`,
		`{"like":"l4","name":"m","title":"M","source":"s","arch":95}`: "arch 95 is not known",
		`{"like":"l4","name":"m","title":"M","source":"s","arch":75}`: "the kernels do not run on M",
		`{"name":"m","title":"M","source":"s","arch":80,"sms":8}`:     "want more than 0",
		`{"like":"l4","name":"m","title":"M","source":"s"} {}`:        "invalid character",
		`[]`: "cannot unmarshal",
	} {
		write(text)
		_, err := Load(file)
		require.ErrorContains(t, err, want, text)
	}
	_, err = Load(filepath.Join(t.TempDir(), "none.json"))
	require.ErrorContains(t, err, "no such file")
}

func FuzzCards(f *testing.F) {
	f.Add([]byte(`{"like":"l4","name":"m","title":"M","source":"s","sms":3}`))
	f.Add(further)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parse(data, Cards())
		if err == nil && c.Arch >= leastArch {
			require.NoError(t, c.check())
			require.Positive(t, c.Time(Counts{Blocks: 5, Instructions: 100, HBM: 1e9}).Total())
		}
	})
}
