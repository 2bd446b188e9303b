// Command release makes the archives that users download: the program for every system, with its manual page, completions,
// licences and a bill of materials, and a file of checksums. The same commit gives the same bytes in every folder.
//
//	go run ./tools/release --output build/release            # all systems
//	go run ./tools/release --output build/release linux/amd64
//
// The programs for Linux hold the CUDA device and need clang, lld and the C libraries that sysroot.sh fetches; the others
// are plain builds.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"unirestorer"
)

// target is a system that a release is made for.
type target struct {
	os, arch string
	triple   string // of the C compiler, where the program holds the CUDA device
}

var targets = []target{
	{"linux", "amd64", "x86_64-linux-gnu"}, {"linux", "arm64", "aarch64-linux-gnu"},
	{"darwin", "amd64", ""}, {"darwin", "arm64", ""},
	{"windows", "amd64", ""}, {"windows", "arm64", ""},
}

func (t target) name() string { return t.os + "/" + t.arch }

func main() {
	log.SetFlags(0)
	log.SetPrefix("release: ")
	output := flag.String("output", "build/release", "`folder` for the archives")
	sysroots := flag.String("sysroots", "build/sysroot", "`folder` for the C libraries of Linux")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *output, *sysroots, flag.Args()); err != nil {
		log.Fatal(err)
	}
}

// choose returns the named targets, or all.
func choose(names []string) ([]target, error) {
	if len(names) == 0 {
		return targets, nil
	}
	var chosen []target
	for _, name := range names {
		i := slices.IndexFunc(targets, func(t target) bool { return t.name() == name })
		if i < 0 {
			return nil, fmt.Errorf("no release for %q", name)
		}
		chosen = append(chosen, targets[i])
	}
	return chosen, nil
}

func run(ctx context.Context, output, sysroots string, names []string) error {
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	version, made, err := revision(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(output, 0o777); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "release")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	shared, err := sharedFiles(ctx, work)
	if err != nil {
		return err
	}
	var archives []string
	for _, t := range chosen {
		binary := filepath.Join(work, t.os+"_"+t.arch, "unirestorer")
		if t.os == "windows" {
			binary += ".exe"
		}
		if err := build(ctx, t, binary, sysroots); err != nil {
			return fmt.Errorf("%s: %w", t.name(), err)
		}
		files := slices.Clone(shared)
		program, err := os.ReadFile(binary)
		if err != nil {
			return err
		}
		files = append(files, file{filepath.Base(binary), program, true})
		about, err := aboutModules(binary, version, made)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name(), err)
		}
		files = append(files, about...)
		name := fmt.Sprintf("unirestorer_%s_%s_%s", version, t.os, t.arch)
		data, extension, err := pack(t.os == "windows", name, files, made)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name(), err)
		}
		if err := os.WriteFile(filepath.Join(output, name+extension), data, 0o666); err != nil {
			return err
		}
		fmt.Printf("%-50s %5.1f MiB, program %5.1f MiB\n", name+extension, mib(len(data)), mib(len(program)))
		archives = append(archives, name+extension)
	}
	return sums(output, archives)
}

func mib(n int) float64 { return float64(n) / (1 << 20) }

// revision is what the archives are named after and dated with: the program's version, with the commit unless that is tagged
// so, and the commit's time. A source tree without git takes RELEASE_VERSION and SOURCE_DATE_EPOCH.
func revision(ctx context.Context) (version string, made time.Time, err error) {
	version, stamp := os.Getenv("RELEASE_VERSION"), os.Getenv("SOURCE_DATE_EPOCH")
	if version == "" {
		version, _, _ = strings.Cut(unirestorer.Version(), " ")
		commit, err := output(ctx, "git", "describe", "--tags", "--always", "--dirty")
		if err != nil {
			return "", made, fmt.Errorf("%w (without git, set RELEASE_VERSION and SOURCE_DATE_EPOCH)", err)
		}
		if commit != "v"+version {
			version += "-" + commit
		}
	}
	if stamp == "" {
		if stamp, err = output(ctx, "git", "log", "-1", "--format=%ct"); err != nil {
			return "", made, err
		}
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return "", made, fmt.Errorf("time of the release: %w", err)
	}
	return version, time.Unix(seconds, 0).UTC(), nil
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// build compiles the program for t.
func build(ctx context.Context, t target, binary, sysroots string) error {
	// The IDs of builds depend on the names of the C compiler and of folders.
	args := []string{"build", "-trimpath", "-ldflags", "-s -w -buildid= -B none", "-o", binary}
	env := append(os.Environ(), "GOOS="+t.os, "GOARCH="+t.arch, "CGO_ENABLED=0", "GOAMD64=v1", "GOARM64=v8.0")
	if t.triple != "" {
		sysroot, err := filepath.Abs(filepath.Join(sysroots, t.arch))
		if err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(sysroot, "usr/include/stdlib.h")); err != nil {
			if err := loud(exec.CommandContext(ctx, "tools/release/sysroot.sh", sysroot, t.arch)); err != nil {
				return fmt.Errorf("fetch the C library: %w", err)
			}
		}
		cc, err := filepath.Abs("tools/release/cc.sh")
		if err != nil {
			return err
		}
		include, err := filepath.Abs("runtime/cuda/include")
		if err != nil {
			return err
		}
		args = append(args, "-tags", "cuda")
		env = append(env, "CGO_ENABLED=1", "CC="+cc, "CGO_CFLAGS=-O2 -I"+include, "CGO_LDFLAGS=",
			"RELEASE_TRIPLE="+t.triple, "RELEASE_SYSROOT="+sysroot)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/unirestorer")...)
	cmd.Env = env
	return loud(cmd)
}

func loud(cmd *exec.Cmd) error {
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(cmd.Path), err)
	}
	return nil
}

// sharedFiles are what every archive holds beside the program: texts, manual page and completions.
func sharedFiles(ctx context.Context, work string) ([]file, error) {
	tool := filepath.Join(work, "host", "unirestorer")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", tool, "./cmd/unirestorer")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := loud(cmd); err != nil {
		return nil, err
	}
	var files []file
	for _, made := range []struct {
		name string
		args []string
	}{
		{"share/man/man1/unirestorer.1", []string{"man"}},
		{"share/bash-completion/completions/unirestorer", []string{"completion", "bash"}},
		{"share/zsh/site-functions/_unirestorer", []string{"completion", "zsh"}},
		{"share/fish/vendor_completions.d/unirestorer.fish", []string{"completion", "fish"}},
	} {
		text, err := output(ctx, tool, made.args...)
		if err != nil {
			return nil, err
		}
		files = append(files, file{made.name, []byte(text + "\n"), false})
	}
	tracked := map[string]string{
		"README.md": "README.md", "LICENSE": "LICENSE", "NOTICE": "NOTICE", "CHANGELOG.md": "CHANGELOG.md", "docs/nvidia.md": "docs/nvidia.md",
		"tools/release/Containerfile": "Containerfile", "testdata/photos/rain.png": "example/rain.png",
		"testdata/photos/LICENSE.md": "licenses/photos/LICENSE.md", "weights/nano/LICENSE.md": "licenses/nano/LICENSE.md",
		"tools/codecs/LICENSES": "licenses/codecs/LICENSES",
	}
	for from, to := range tracked {
		data, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		files = append(files, file{to, data, false})
	}
	return files, nil
}
