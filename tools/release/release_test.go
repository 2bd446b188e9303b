package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var made = time.Unix(1_700_000_000, 0).UTC()

func TestArchivesDependOnTheirContentAlone(t *testing.T) {
	files := []file{{"b/program", []byte("binary"), true}, {"a.txt", bytes.Repeat([]byte("text "), 1000), false}}
	turned := []file{files[1], files[0]}
	for _, zipped := range []bool{false, true} {
		one, extension, err := pack(zipped, "top", files, made)
		require.NoError(t, err)
		two, _, err := pack(zipped, "top", turned, made)
		require.NoError(t, err)
		require.True(t, bytes.Equal(one, two), extension)
		other, _, err := pack(zipped, "top", files, made.Add(time.Hour))
		require.NoError(t, err)
		require.False(t, bytes.Equal(one, other), "the time is the commit's")
	}
	data, extension, err := pack(false, "top", files, made)
	require.NoError(t, err)
	require.Equal(t, ".tar.gz", extension)
	z, err := gzip.NewReader(bytes.NewReader(data))
	require.NoError(t, err)
	r := tar.NewReader(z)
	for _, want := range []struct {
		name string
		mode int64
	}{{"top/a.txt", 0o644}, {"top/b/program", 0o755}} {
		h, err := r.Next()
		require.NoError(t, err)
		require.Equal(t, want.name, h.Name)
		require.Equal(t, want.mode, h.Mode)
		require.True(t, made.Equal(h.ModTime))
	}
	_, err = r.Next()
	require.ErrorIs(t, err, io.EOF)

	data, extension, err = pack(true, "top", files, made)
	require.NoError(t, err)
	require.Equal(t, ".zip", extension)
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	require.NoError(t, err)
	require.Equal(t, "top/b/program", archive.File[1].Name)
	require.Equal(t, os.FileMode(0o755), archive.File[1].Mode())
}

func TestChecksums(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b"), []byte("b"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), nil, 0o600))
	require.NoError(t, sums(dir, []string{"b", "a"}))
	text, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
	require.NoError(t, err)
	require.Equal(t, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a\n"+
		"3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d  b\n", string(text))
}

// Every module that this test program links has a licence that is known.
func TestLicencesOfModulesAreFound(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	info, err := buildinfo.ReadFile(exe)
	require.NoError(t, err)
	parts, err := components(info)
	require.NoError(t, err)
	byPath := map[string]component{}
	for _, p := range parts {
		require.NotEmpty(t, p.licenses, p.path)
		require.NotEmpty(t, p.texts, p.path)
		byPath[p.path] = p
	}
	require.Equal(t, []string{"BSD-3-Clause"}, byPath["std"].licenses)
	require.Equal(t, []string{"Apache-2.0"}, byPath["github.com/CycloneDX/cyclonedx-go"].licenses)

	data, err := materials(parts, "v1", made)
	require.NoError(t, err)
	var bom struct {
		Metadata   struct{ Timestamp string }
		Components []struct {
			Name, Version, Purl string
			Hashes              []struct{ Content string }
		}
	}
	require.NoError(t, json.Unmarshal(data, &bom))
	require.Equal(t, "2023-11-14T22:13:20Z", bom.Metadata.Timestamp)
	require.Len(t, bom.Components, len(parts))
	for _, c := range bom.Components {
		require.Equal(t, "pkg:golang/"+c.Name+"@"+c.Version, c.Purl)
		if c.Name != "std" {
			require.Len(t, c.Hashes[0].Content, 64)
		}
	}
	again, err := materials(parts, "v1", made)
	require.NoError(t, err)
	require.Equal(t, data, again)
}

func TestUnknownLicenceIsNoLicence(t *testing.T) {
	require.Empty(t, identify([]byte("All rights reserved.")))
	dir := t.TempDir()
	_, err := licenseFiles(dir, "licenses/x")
	require.ErrorContains(t, err, "no licence")
}

// A module whose licence is not known would end a release.
func TestLicencesOfAllModulesAreKnown(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}", "../../cmd/unirestorer").Output()
	require.NoError(t, err)
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		name, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" || seen[name] {
			continue
		}
		seen[name] = true
		texts, err := licenseFiles(dir, name)
		require.NoError(t, err, name)
		known := slices.ContainsFunc(texts, func(f file) bool { return identify(f.data) != "" })
		require.True(t, known, name)
	}
	require.Greater(t, len(seen), 10)
}

func TestTargetsByName(t *testing.T) {
	all, err := choose(nil)
	require.NoError(t, err)
	require.Len(t, all, len(targets))
	one, err := choose([]string{"windows/amd64"})
	require.NoError(t, err)
	require.Equal(t, "windows", one[0].os)
	_, err = choose([]string{"plan9/386"})
	require.ErrorContains(t, err, `no release for "plan9/386"`)
}
