package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
)

// component is something that a program is made of, with the licence that it may be passed on under.
type component struct {
	path, version, sum string
	licenses           []string // SPDX identifiers; each is of a part, or one to choose
	texts              []file
}

// aboutModules are the licences of all modules in a program, and its bill of materials.
func aboutModules(binary, version string, made time.Time) ([]file, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	parts, err := components(info)
	if err != nil {
		return nil, err
	}
	bom, err := materials(parts, version, made)
	if err != nil {
		return nil, err
	}
	files := []file{{"sbom.cdx.json", bom, false}}
	for _, c := range parts {
		files = append(files, c.texts...)
	}
	return files, nil
}

// components lists a program's modules, Go's own library and the libraries inside.
func components(info *buildinfo.BuildInfo) ([]component, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOROOT: %w", err)
	}
	texts, err := licenseFiles(strings.TrimSpace(string(root)), "licenses/go")
	if err != nil {
		return nil, err
	}
	parts := []component{{path: "std", version: strings.TrimPrefix(info.GoVersion, "go"), licenses: []string{"BSD-3-Clause"}, texts: texts}}
	folders, err := moduleFolders(info.Deps)
	if err != nil {
		return nil, err
	}
	for _, m := range info.Deps {
		for m.Replace != nil {
			m = m.Replace
		}
		c := component{path: m.Path, version: m.Version, sum: m.Sum}
		if c.texts, err = licenseFiles(folders[m.Path], path.Join("licenses", m.Path)); err != nil {
			return nil, fmt.Errorf("module %s: %w", m.Path, err)
		}
		for _, t := range c.texts {
			if id := identify(t.data); id != "" && !slices.Contains(c.licenses, id) {
				c.licenses = append(c.licenses, id)
			}
		}
		if len(c.licenses) == 0 {
			return nil, fmt.Errorf("module %s: its licence is not among those known here", m.Path)
		}
		parts = append(parts, c)
	}
	slices.SortFunc(parts, func(a, b component) int { return strings.Compare(a.path, b.path) })
	return parts, nil
}

// moduleFolders finds where modules lie.
func moduleFolders(deps []*debug.Module) (map[string]string, error) {
	args := []string{"mod", "download", "-json"}
	for _, m := range deps {
		args = append(args, m.Path+"@"+m.Version)
	}
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		return nil, fmt.Errorf("go mod download: %w", err)
	}
	folders := map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var m struct{ Path, Dir string }
		if err := d.Decode(&m); err != nil {
			return nil, err
		}
		folders[m.Path] = m.Dir
	}
	return folders, nil
}

var licenseName = regexp.MustCompile(`(?i)^(licen[sc]e|copying|notice|patents)([-.].*)?$`)

// licenseFiles reads the licence texts in a folder.
func licenseFiles(folder, to string) ([]file, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var texts []file
	for _, e := range entries {
		if e.IsDir() && e.Name() == "licenses" {
			more, err := licenseFiles(filepath.Join(folder, e.Name()), path.Join(to, e.Name()))
			if err != nil {
				return nil, err
			}
			texts = append(texts, more...)
		}
		if e.IsDir() || !licenseName.MatchString(e.Name()) && filepath.Base(folder) != "licenses" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil, err
		}
		texts = append(texts, file{path.Join(to, e.Name()), data, false})
	}
	if len(texts) == 0 {
		return nil, errors.New("no licence")
	}
	return texts, nil
}

// identify names the licence of a text, "" if it is none of those that modules here use.
func identify(text []byte) string {
	s := strings.Join(strings.Fields(strings.ToLower(string(text))), " ")
	has := func(phrase string) bool { return strings.Contains(s, phrase) }
	switch {
	case has("creative commons attribution 4.0 international public license"):
		return "CC-BY-4.0"
	case has("the freetype project license"):
		return "FTL"
	case has("gnu general public license") && has("version 2, june 1991"):
		return "GPL-2.0-or-later"
	case has("apache license") && has("version 2.0"):
		return "Apache-2.0"
	case has("mozilla public license") && has("version 2.0"):
		return "MPL-2.0"
	case has("sil open font license"):
		return "OFL-1.1"
	case has("redistributions of source code") && (has("neither the name") || has("may not be used to endorse")):
		return "BSD-3-Clause"
	case has("redistributions of source code"):
		return "BSD-2-Clause"
	case has("permission is hereby granted, free of charge"):
		return "MIT"
	case has("permission to use, copy, modify, and/or distribute"), has("permission to use, copy, modify, and distribute"):
		return "ISC"
	case has("this is free and unencumbered software"):
		return "Unlicense"
	}
	return ""
}

// materials writes a bill of materials as CycloneDX JSON.
func materials(parts []component, version string, made time.Time) ([]byte, error) {
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: made.Format(time.RFC3339),
		Component: &cyclonedx.Component{Type: cyclonedx.ComponentTypeApplication, BOMRef: "unirestorer", Name: "unirestorer", Version: version},
	}
	var list []cyclonedx.Component
	for _, p := range parts {
		c := cyclonedx.Component{
			Type: cyclonedx.ComponentTypeLibrary, BOMRef: p.path + "@" + p.version, Name: p.path, Version: p.version,
			PackageURL: "pkg:golang/" + p.path + "@" + p.version,
		}
		licenses := cyclonedx.Licenses{}
		for _, id := range p.licenses {
			licenses = append(licenses, cyclonedx.LicenseChoice{License: &cyclonedx.License{ID: id}})
		}
		c.Licenses = &licenses
		if sum, ok := strings.CutPrefix(p.sum, "h1:"); ok {
			raw, err := base64.StdEncoding.DecodeString(sum)
			if err != nil {
				return nil, fmt.Errorf("checksum of %s: %w", p.path, err)
			}
			c.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(raw)}}
		}
		list = append(list, c)
	}
	bom.Components = &list
	var b bytes.Buffer
	err := cyclonedx.NewBOMEncoder(&b, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
	return b.Bytes(), err
}
