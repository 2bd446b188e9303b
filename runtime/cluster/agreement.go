package cluster

import "fmt"

// AdjustedRand is how far two partitions of the same samples agree: the Rand index corrected for chance (Hubert and Arabie,
// Journal of Classification, 1985), 1 for the same partition, about 0 for independent ones. Any labels will do, [Noise] too,
// which counts as a part. Two partitions into a single part each agree.
func AdjustedRand(a, b []int) (float64, error) {
	if len(a) != len(b) || len(a) == 0 {
		return 0, fmt.Errorf("adjusted Rand index of %d and %d labels", len(a), len(b))
	}
	type pair struct{ a, b int }
	both, rows, columns := map[pair]float64{}, map[int]float64{}, map[int]float64{}
	for i := range a {
		both[pair{a[i], b[i]}]++
		rows[a[i]]++
		columns[b[i]]++
	}
	index, of, in := 0.0, 0.0, 0.0
	for _, n := range both {
		index += n * (n - 1) / 2
	}
	for _, n := range rows {
		of += n * (n - 1) / 2
	}
	for _, n := range columns {
		in += n * (n - 1) / 2
	}
	n := float64(len(a))
	expected := 0.0
	if n > 1 {
		expected = of * in / (n * (n - 1) / 2)
	}
	if most := (of + in) / 2; most != expected {
		return (index - expected) / (most - expected), nil
	}
	return 1, nil
}
