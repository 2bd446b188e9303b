package pools_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/degrade"
	"unirestorer/runtime/experts/expertstest"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/pools"
	"unirestorer/runtime/router"
)

const side = 160

// partOf is one of many parts of a photo, side×side.
func partOf(t testing.TB, photo *imaging.Image, i int) *degrade.Image {
	t.Helper()
	part, err := degrade.NewImage(side, side)
	require.NoError(t, err)
	x, y := i*37%(photo.W-side), i*53%(photo.H-side)
	for row := range side {
		for col := range side {
			for c := range 3 {
				part.Pix[(row*side+col)*3+c] = float32(photo.Pix[((y+row)*photo.W+x+col)*photo.Channels+c]) / 255
			}
		}
	}
	return part
}

func inBytes(t testing.TB, x *degrade.Image) *imaging.Image {
	t.Helper()
	img, err := imaging.New(side, side, 3, 8)
	require.NoError(t, err)
	for i, v := range x.Pix {
		img.Pix[i] = uint8(min(max(v*255+0.5, 0), 255))
	}
	return img
}

// spoilt writes pictures of each kind, different parts of a photo, into folders
// named by the kind.
func spoilt(t testing.TB, dir string, kinds []string, first, count int) {
	t.Helper()
	photo := picture(t, "../../testdata/photos/clean.png")
	for k, kind := range kinds {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, kind), 0o777))
		for i := first; i < first+count; i++ {
			spec, err := degrade.ParseSpec(fmt.Sprintf("%s:%g@%d", kind, 0.4+0.1*float64(i%4), 100*k+i))
			require.NoError(t, err)
			part := partOf(t, photo, i)
			out, err := degrade.Apply(context.Background(), part, spec)
			require.NoError(t, err)
			img := inBytes(t, out)
			require.NoError(t, imaging.EncodeFile(context.Background(), filepath.Join(dir, kind, fmt.Sprint(i, ".png")), img, imaging.EncodeOptions{Format: imaging.PNG}))
		}
	}
}

func TestRoutersFittedToExamplesKnowOthers(t *testing.T) {
	kinds := []string{"haze", "lowlight", "noise", "rain"}
	dir := t.TempDir()
	spoilt(t, filepath.Join(dir, "examples"), kinds, 0, 8)
	spoilt(t, filepath.Join(dir, "others"), kinds, 8, 4)
	ctx := context.Background()
	b := expertstest.CPU(t)
	p := pool(t, nil)
	add(t, p, pools.Expert{Path: single("nafnet"), Name: "a", Kinds: []string{"noise"}})
	require.NoError(t, change(t, p, func(p *pools.Pool) error {
		fit, err := p.FitRouter(ctx, b, filepath.Join(dir, "examples"), builtIn(t), nil)
		require.NoError(t, err)
		require.Equal(t, kinds, fit.Kinds)
		require.Equal(t, []int{8, 8, 8, 8}, fit.Pictures)
		require.Greater(t, fit.Accuracy, 0.85)
		require.Less(t, fit.Interval[0], fit.Accuracy)
		require.Greater(t, fit.Temperature, 0.0)
		return nil
	}))
	m := opened(t, p)
	require.True(t, m.Config.Routed())
	e, err := router.NewEstimator(ctx, b, m.Config, m.Source)
	require.NoError(t, err)
	defer e.Close()
	right, all := 0, 0
	for k, kind := range kinds {
		files, err := filepath.Glob(filepath.Join(dir, "others", kind, "*"))
		require.NoError(t, err)
		for _, f := range files {
			d, err := e.Route(ctx, picture(t, f), router.Override{})
			require.NoError(t, err)
			all++
			if d.Leaf == k {
				right++
			}
			if d.Leaf == 2 {
				require.Equal(t, "a", m.Config.Experts[d.Expert].Name)
			} else {
				require.Equal(t, "none", m.Config.Experts[d.Expert].Name)
			}
		}
	}
	require.Equal(t, 16, all)
	require.GreaterOrEqual(t, right, 14)
}

func TestExamplesThatSayNothingAreRefused(t *testing.T) {
	ctx := context.Background()
	b := expertstest.CPU(t)
	p := pool(t, builtIn(t))
	few := filepath.Join(t.TempDir(), "few")
	spoilt(t, few, []string{"rain", "haze"}, 0, 2)
	one := filepath.Join(t.TempDir(), "one")
	spoilt(t, one, []string{"rain"}, 0, 4)
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.MkdirAll(filepath.Join(empty, "rain"), 0o777))
	for dir, want := range map[string]string{few: "has 2 pictures that can be read", one: "two kinds or more", empty: "holds no pictures", "none": "no such file"} {
		err := change(t, p, func(p *pools.Pool) error {
			_, err := p.FitRouter(ctx, b, dir, nil, nil)
			return err
		})
		require.ErrorContains(t, err, want)
	}
	require.Equal(t, "lowlight", opened(t, p).Config.Tree.Leaves[0].Name, "nothing has changed")
}
