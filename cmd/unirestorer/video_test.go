package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVideoRefusesQualitiesThatNoEncoderHas(t *testing.T) {
	for _, crf := range []string{"-1", "64", "999", "NaN", "best"} {
		code, _, stderr := command("video", "in.mp4", "-o", "out.mp4", "--crf", crf)
		require.Equal(t, 2, code, crf)
		require.Contains(t, stderr, "0 to 63")
	}
}
