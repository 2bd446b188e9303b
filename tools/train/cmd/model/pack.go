package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"

	"unirestorer/graph/models"
	"unirestorer/weights"
)

// packing says what to store where.
type packing struct {
	config, tensors, out string
	maxBytes             int64 // 0 for no limit
}

// pack writes the model folder. Tensors that inference does not read are left out, those that are equal after rounding
// to fp16, such as a LoRA expert's base and the expert it adapts, are stored once.
func pack(ctx context.Context, out io.Writer, p packing) (err error) {
	config, err := os.ReadFile(p.config)
	if err != nil {
		return err
	}
	model, err := models.ParseConfig(config)
	if err != nil {
		return fmt.Errorf("%s: %w", p.config, err)
	}
	source, err := weights.OpenSafetensors(p.tensors)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()

	// The size is known only when the folder is written, so it is written beside its place first.
	scratch, err := os.MkdirTemp(filepath.Dir(filepath.Clean(p.out)), ".pack-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	trial := filepath.Join(scratch, "model")
	summary, err := write(ctx, trial, model, source, config, false)
	if err != nil {
		return err
	}
	if p.maxBytes > 0 && summary.Bytes > p.maxBytes {
		return fmt.Errorf("the tensors take %s, more than the %s allowed", humanize.Bytes(uint64(summary.Bytes)), humanize.Bytes(uint64(p.maxBytes)))
	}
	if summary, err = write(ctx, p.out, model, source, config, true); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s: %d tensors stored, %d more equal to one of them, %s\n",
		p.out, summary.Tensors, summary.Aliases, humanize.Bytes(uint64(summary.Bytes)))
	return err
}

func write(ctx context.Context, path string, model *models.Config, source weights.Source, config []byte, overwrite bool) (summary weights.FolderSummary, err error) {
	folder, err := weights.CreateFolder(path, weights.FolderOptions{DType: weights.RoundToF16, Overwrite: overwrite})
	if err != nil {
		return summary, err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	specs, err := model.Stored()
	if err != nil {
		return summary, err
	}
	for _, spec := range models.Used(specs) {
		t, err := spec.Tensor(source)
		if err != nil {
			return summary, err
		}
		if err := folder.Add(ctx, t); err != nil {
			return summary, err
		}
	}
	return folder.Finish(ctx, config)
}
