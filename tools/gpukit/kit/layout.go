// Package kit puts together a folder of programs, golden cases and scripts that a machine with a GPU but without Go or a
// network can run, and runs its stages there.
package kit

import "path/filepath"

// Layout says where things lie in a kit's folder.
type Layout string

// tree is the part of the repository that tests and scripts find their files in.
func (l Layout) tree() string { return filepath.Join(string(l), "tree") }

// goldens are the golden cases.
func (l Layout) goldens() string { return filepath.Join(l.tree(), "testdata", "goldens") }

// gpukit is this program.
func (l Layout) gpukit() string { return filepath.Join(string(l), "bin", "gpukit") }

// cli is the command line of the project.
func (l Layout) cli() string { return filepath.Join(string(l), "bin", "unirestorer") }

// test is the test binary of a package; it runs in the package's folder.
func (l Layout) test(pkg string) string {
	return filepath.Join(l.tree(), filepath.FromSlash(pkg), filepath.Base(pkg)+".test")
}

// peers is the script of PyTorch's side.
func (l Layout) peers() string {
	return filepath.Join(l.tree(), "tools", "gpukit", "pytorch", "peers.py")
}

// description is the file that says what the kit was built from.
func (l Layout) description() string { return filepath.Join(string(l), "kit.json") }

// testPackages are those with tests for a card.
var testPackages = []string{"runtime/cuda", "runtime/gpu"}

// programs are all that may be in a kit.
func (l Layout) programs() []string {
	all := []string{l.gpukit(), l.cli()}
	for _, p := range testPackages {
		all = append(all, l.test(p))
	}
	return all
}
