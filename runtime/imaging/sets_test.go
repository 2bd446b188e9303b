package imaging

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSetsOfPicturesAreReadAsVipsReadsThem decodes every picture under the folder that UNIRESTORER_TEST_PICTURES names and
// compares it with what libvips makes of it: `make picture-sets PICTURES=FOLDER`. At least 95 % of those that libvips reads
// without a warning must be read, to 40 dB. What libvips takes for numbers rather than for a picture is scaled: integers of 32
// bits to their full range, floating point from 0 to 1; negative and larger numbers are not compared.
func TestSetsOfPicturesAreReadAsVipsReadsThem(t *testing.T) {
	root := os.Getenv("UNIRESTORER_TEST_PICTURES")
	if root == "" {
		t.Skip("UNIRESTORER_TEST_PICTURES names no folder")
	}
	vips, err := exec.LookPath("vips")
	require.NoError(t, err, "Debian's libvips-tools has it")
	var all, right, odd int
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if _, err := FormatFromPath(path); err != nil {
			return nil
		}
		name, _ := filepath.Rel(root, path)
		img, err := DecodeFile(path, Limits{})
		if err != nil {
			require.NotContains(t, err.Error(), "malformed file (", "a panic that the guard caught")
		}
		want, words := byVips(t, vips, path)
		if want == nil || words != "" {
			odd++
			t.Logf("%s: vips: %s; here: %v", name, words, err)
			return nil
		}
		all++
		var foreign *foreignError
		switch {
		case errors.As(err, &foreign):
			t.Errorf("%s: named: %v", name, err)
		case err != nil:
			t.Logf("%s: REFUSED: %v", name, err)
		case img.W != want.W || img.H != want.H:
			t.Logf("%s: WRONG: %d×%d instead of %d×%d", name, img.W, img.H, want.W, want.H)
		default:
			if db := psnr(as8BitRGB(want), as8BitRGB(img)); db < 40 {
				t.Logf("%s: WRONG: %.1f dB", name, db)
			} else {
				right++
			}
		}
		return nil
	}))
	t.Logf("%d of %d right, %d that vips does not read or warns of", right, all, odd)
	require.GreaterOrEqual(t, float64(right), 0.95*float64(all))
}

// byVips is what libvips makes of a picture as it stands in the file, nil for nothing, and what it warned of.
func byVips(t *testing.T, vips, path string) (*Image, string) {
	dir := t.TempDir()
	out := filepath.Join(dir, "vips.png")
	cmd := exec.Command(vips, "copy", path, out)
	band, _ := exec.Command("vipsheader", "-f", "format", path).Output()
	switch kind := string(band); {
	case strings.Contains(kind, "_UINT"):
		cmd = scaled(t, vips, path, out, 1.0/(1<<24+1<<16+1<<8+1), math.Inf(1))
	case strings.Contains(kind, "_FLOAT"):
		cmd = scaled(t, vips, path, out, 255, 1)
	case strings.Contains(kind, "_SHORT"), strings.Contains(kind, "_INT"), strings.Contains(kind, "_DOUBLE"):
		cmd = nil
	}
	if cmd == nil {
		return nil, "numbers that are no picture"
	}
	var words bytes.Buffer
	cmd.Stderr = &words
	if err := cmd.Run(); err != nil {
		return nil, strings.Join(strings.Fields(words.String()), " ")
	}
	img, err := DecodeFile(out, Limits{})
	require.NoError(t, err)
	return img, strings.Join(strings.Fields(words.String()), " ")
}

// scaled has libvips multiply a picture of numbers, nil where they lie beyond 0 to most.
func scaled(t *testing.T, vips, path, out string, by, most float64) *exec.Cmd {
	number := func(what string) float64 {
		text, _ := exec.Command(vips, what, path).Output()
		v, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
		if err != nil {
			return math.NaN()
		}
		return v
	}
	if !(number("min") >= 0 && number("max") <= most) {
		return nil
	}
	whole := out + ".v"
	if err := exec.Command(vips, "linear", path, whole, strconv.FormatFloat(by, 'g', -1, 64), "0").Run(); err != nil {
		return nil
	}
	return exec.Command(vips, "cast", whole, out, "uchar")
}
