//go:build cuda && linux

package cuda

import (
	"bytes"
	"debug/elf"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzImage looks for images whose check fails badly, or lets through what is not text and not ELF.
func FuzzImage(f *testing.F) {
	self, err := os.Executable()
	require.NoError(f, err)
	program, err := os.ReadFile(self)
	require.NoError(f, err)
	for _, seed := range [][]byte{program[:64], program[:4096], []byte(".version 8.4\x00"), []byte("\x7fELF\x02\x01\x01"), {0}, nil} {
		f.Add(seed)
	}
	require.NoError(f, checkImage(program))
	f.Fuzz(func(t *testing.T, image []byte) {
		if checkImage(image) == nil && !bytes.HasPrefix(image, []byte(elf.ELFMAG)) {
			require.NotContains(t, bytes.TrimRight(image, "\x00"), byte(0))
			require.NotEmpty(t, image)
		}
	})
}
