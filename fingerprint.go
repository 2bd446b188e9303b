package unirestorer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Fingerprint names what results depend on beside pictures and options: the model, by its description and by size and time
// of its files, the device and the version of this package. Equal fingerprints give equal results.
func (r *Restorer) Fingerprint() (string, error) {
	h := sha256.New()
	m := r.engine.Model()
	text, err := json.Marshal(m.Config)
	if err != nil {
		return "", fmt.Errorf("fingerprint of %s: %w", m.Path, err)
	}
	o := &r.opened // bounds on memory choose tiles
	fmt.Fprintf(h, "%s\n%s\n%s %v %d %d\n%s\n%s\n", Version(), r.Device(), o.adapters, o.precision, o.memory, o.deviceMemory, m.Path, text)
	if path := r.opened.path; path != "" {
		err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			fmt.Fprintf(h, "%s %d %d\n", name, info.Size(), info.ModTime().UnixNano())
			return nil
		})
		if err != nil && !os.IsNotExist(err) { // the built-in model has no files
			return "", fmt.Errorf("fingerprint of %s: %w", m.Path, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:12]), nil
}
