package video

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// soundFits makes sure, before the first frame is restored, that the clip's sound goes into a file of the result's kind as
// it was asked for.
func (f *file) soundFits(ctx context.Context) (err error) {
	if f.probed == nil {
		return nil
	}
	args := []string{"-v", "error", "-nostdin", "-y", "-i", local(f.in)}
	before := len(args)
	for _, s := range f.probed.Streams {
		if s.Type == "audio" {
			args = append(args, "-map", fmt.Sprintf("0:%d", s.Index))
		}
	}
	if len(args) == before {
		return nil
	}
	dir, err := os.MkdirTemp("", "unirestorer-sound-*")
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, os.RemoveAll(dir)) }()
	ext := strings.ToLower(filepath.Ext(f.out))
	args = append(args, "-c:a", cmp.Or(f.o.Encoder.Audio, "copy"), "-t", "0.1", local(filepath.Join(dir, "sound"+ext)))
	if _, err := command(ctx, "ffmpeg", args...); err != nil {
		return fmt.Errorf("the clip's sound does not go into a file of kind %s: %w; --audio-codec names an encoder for it, such as aac or libopus", ext, err)
	}
	return nil
}
