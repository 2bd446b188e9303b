package evaluate

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzParseCase(f *testing.F) {
	for _, text := range []string{"rain", "mixed", "clean", "noise:sigma=25", "haze:0.6+noise:0.2", "jpeg:q=20@7", "", ":", "rain:heavy"} {
		f.Add(text, 0.25)
	}
	f.Fuzz(func(t *testing.T, text string, severity float64) {
		c, err := ParseCase(text, []float64{severity, 0.5})
		if err != nil {
			return
		}
		again, err := ParseCase(c.Name, []float64{severity, 0.5})
		require.NoError(t, err)
		require.Equal(t, c, again, "a case is called by its name")
		require.NoError(t, c.spec(3, 9).Check())
	})
}

func FuzzParsePolicies(f *testing.F) {
	for _, name := range []string{"all", "routed", "level=1", "level=", "level=-0", "known", "oracle", "LEVEL=1"} {
		f.Add(name, true)
	}
	f.Fuzz(func(t *testing.T, name string, matrix bool) {
		policies, err := ParsePolicies(pool(), []string{name}, matrix, 1)
		if err != nil {
			return
		}
		require.NotEmpty(t, policies)
		list := records()
		for _, p := range policies {
			chosen := p.choose(list)
			require.Len(t, chosen, len(list))
			for _, e := range chosen {
				require.True(t, e >= 0 && e < 5, "an expert that the tree reaches")
			}
		}
	})
}
