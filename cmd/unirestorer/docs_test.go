package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"
)

// documented finds command lines in a page: in lines of code blocks, and in spans.
var documented = regexp.MustCompile("(?m)(?:^ *|`)(?:bin/)?unirestorer ([a-z][^`\n]*)")

// TestDocumentedCommandsExist holds every command line of the pages against the commands and their options.
func TestDocumentedCommandsExist(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	pages = append(pages, "../../README.md")
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range documented.FindAllStringSubmatch(string(text), -1) {
			found++
			if problem := unknownIn(newApp(nil, io.Discard, io.Discard), m[1]); problem != "" {
				t.Errorf("%s: unirestorer %s: no %s", page, m[1], problem)
			}
		}
	}
	require.Greater(t, found, 80)
}

func TestUnknownCommandsAndOptionsAreFound(t *testing.T) {
	app := newApp(nil, io.Discard, io.Discard)
	for line, want := range map[string]string{
		"restore in.png -o out.png --tile 64":  "",
		"lora extract --base=coarse | less -R": "",
		"restor in.png":                        "command restor",
		"lora extract in --raank 4":            "option raank of extract",
		"restore a.png; restore --x b":         "",
	} {
		require.Equal(t, want, unknownIn(app, line), line)
	}
}

// unknownIn names what a command line has that the program does not know: its command or an option.
func unknownIn(app *cli.App, line string) string {
	words := strings.Fields(line)
	c := app.Command(words[0])
	if c == nil {
		return "command " + words[0]
	}
	for _, w := range words[1:] {
		if strings.ContainsAny(w, "|>#;&…") {
			break // another program's, or left open
		}
		if sub := slices.IndexFunc(c.Subcommands, func(s *cli.Command) bool { return s.HasName(w) }); sub >= 0 {
			c = c.Subcommands[sub]
		}
		name, isOption := strings.CutPrefix(strings.Trim(w, "[](),.:"), "-")
		if !isOption || name == "" || name == "-" {
			continue
		}
		name, _, _ = strings.Cut(strings.TrimPrefix(name, "-"), "=")
		if !slices.ContainsFunc(c.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) }) && name != "help" && name != "h" {
			return "option " + name + " of " + c.Name
		}
	}
	return ""
}
