package evaluate

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/experts/expertstest"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/router"
)

func tinyModel(t testing.TB) *experts.Model {
	t.Helper()
	return expertstest.Tiny(t, "../../testdata/goldens/unirestorer_tiny")
}

// writeImage makes a file of smooth shades with texture, the same for a name
// and size.
func writeImage(t testing.TB, path string, w, h int) *imaging.Image {
	t.Helper()
	img, err := imaging.New(w, h, 3, 8)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(uint64(w), uint64(len(filepath.Base(path)))))
	for i := range img.Pix {
		x, y := i/3%w, i/3/w
		img.Pix[i] = uint8(30 + 120*x/w + 60*y/h + (x/5+y/7)%2*20 + rng.IntN(8))
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
	require.NoError(t, imaging.EncodeFile(context.Background(), path, img, imaging.EncodeOptions{}))
	return img
}

// photos loads one photo for each size.
func photos(t testing.TB, minSide int, sizes ...[2]int) []*Photo {
	t.Helper()
	dir := t.TempDir()
	for i, s := range sizes {
		writeImage(t, filepath.Join(dir, string(rune('a'+i))+".png"), s[0], s[1])
	}
	list, small, err := LoadPhotos(context.Background(), []string{dir}, minSide, 1024)
	require.NoError(t, err)
	require.Empty(t, small)
	return list
}

func cases(t testing.TB, names ...string) []Case {
	t.Helper()
	var list []Case
	for _, n := range names {
		c, err := ParseCase(n, []float64{0.25, 0.75})
		require.NoError(t, err)
		list = append(list, c)
	}
	return list
}

// pool is a tree of two leaves and three levels over six experts, of which no
// leaf leads to the last.
func pool() *models.Config {
	c := &models.Config{Name: "pool"}
	for i, level := range []int{0, 1, 1, 2, 2, 2} {
		c.Experts = append(c.Experts, models.ExpertConfig{Name: string(rune('a' + i)), Architecture: "restormer", Level: level})
	}
	c.Tree = models.Tree{
		Levels: []string{"coarse", "middle", "fine"},
		Leaves: []models.Leaf{
			{Name: "wet", Kinds: []string{"rain", "Snow"}, Experts: []int{0, 1, 3}},
			{Name: "grainy", Kinds: []string{"gaussian"}, Experts: []int{0, 2, 4}},
		},
	}
	return c
}

// record is a picture routed to a leaf and level of pool, with the PSNR before
// and that of every expert's result; its SSIMs are a hundredth of those.
func record(name string, kinds []string, before float64, leaf, level int, psnr ...float64) Record {
	r := Record{
		Sample: Sample{Case: name, Variant: name, Name: name + ".png", Kinds: kinds}, Width: 8, Height: 8,
		Before:   Quality{before, before / 100},
		Decision: router.Decision{Leaf: leaf, Level: level, Expert: pool().Tree.Leaves[leaf].Experts[level], LeafEntropy: 0.5, LevelEntropy: 0.25},
	}
	for _, v := range psnr {
		r.Experts = append(r.Experts, &Quality{v, v / 100})
	}
	return r
}

// records are small enough to do their arithmetic by hand.
func records() []Record {
	rain, noise := []string{"rain"}, []string{"noise"}
	return []Record{
		record("rain", rain, 20, 0, 2, 21, 22, 19, 26, 18, 40), // routed to 3, the best that is reached
		record("rain", rain, 22, 0, 1, 23, 25, 20, 25.05, 17, 40),
		record("noise", noise, 20, 0, 0, 24, 21, 27, 20, 29, 40), // routed to the wrong leaf
		record("noise", noise, 24, 1, 2, 25, 22, 26, 21, 28, 40),
		record("clean", []string{"clean"}, Ceiling, 1, 0, 50, 45, 46, 44, 43, 40),
	}
}
