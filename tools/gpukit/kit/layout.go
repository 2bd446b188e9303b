// Package kit puts together a folder of programs, golden cases and scripts that a machine with a GPU but without Go or a
// network can run, and runs its stages there.
package kit

import "path/filepath"

// Layout says where things lie in a kit's folder.
type Layout string

// Tree is the part of the repository that tests and scripts find their files in.
func (l Layout) Tree() string { return filepath.Join(string(l), "tree") }

// Goldens are the golden cases.
func (l Layout) Goldens() string { return filepath.Join(l.Tree(), "testdata", "goldens") }

// Gpukit is this program.
func (l Layout) Gpukit() string { return filepath.Join(string(l), "bin", "gpukit") }

// CLI is the command line of the project.
func (l Layout) CLI() string { return filepath.Join(string(l), "bin", "unirestorer") }

// Test is the test binary of a package; it runs in the package's folder.
func (l Layout) Test(pkg string) string {
	return filepath.Join(l.Tree(), filepath.FromSlash(pkg), filepath.Base(pkg)+".test")
}

// Peers is the script of PyTorch's side.
func (l Layout) Peers() string {
	return filepath.Join(l.Tree(), "tools", "gpukit", "pytorch", "peers.py")
}

// Description is the file that says what the kit was built from.
func (l Layout) Description() string { return filepath.Join(string(l), "kit.json") }

// testPackages are those with tests for a card.
var testPackages = []string{"runtime/cuda", "runtime/gpu"}

// programs are all that may be in a kit.
func (l Layout) programs() []string {
	all := []string{l.Gpukit(), l.CLI()}
	for _, p := range testPackages {
		all = append(all, l.Test(p))
	}
	return all
}
