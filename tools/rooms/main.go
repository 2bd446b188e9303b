// Command rooms holds the table of rooms in docs/design.md against the imports of the code. It writes the table's last
// column and the pictures docs/images/rooms.svg and docs/images/path.svg, and fails where an import points up.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"unirestorer/weights/atomicfile"
)

func main() {
	dir := flag.String("root", ".", "`folder` of the module")
	flag.Parse()
	if err := run(context.Background(), *dir); err != nil {
		fmt.Fprintln(os.Stderr, "rooms:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string) error {
	path := filepath.Join(dir, "docs", "design.md")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	d, err := parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	all, err := imports(dir)
	if err != nil {
		return err
	}
	if wrong := d.check(all); len(wrong) > 0 {
		return fmt.Errorf("%s:\n%s", path, strings.Join(wrong, "\n"))
	}
	images := filepath.Join(dir, "docs", "images")
	for path, content := range map[string]string{
		path:                               d.text(),
		filepath.Join(images, "rooms.svg"): d.drawing(),
		filepath.Join(images, "path.svg"):  pathDrawing(),
	} {
		if err := atomicfile.Write(ctx, path, func(w io.Writer) error { _, err := io.WriteString(w, content); return err }); err != nil {
			return err
		}
	}
	return nil
}
