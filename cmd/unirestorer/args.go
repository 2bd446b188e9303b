package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// interleave moves a command's options in front of its arguments, so that
// "restore photo.jpg -o out.png" means what it says; the flag package stops at
// the first argument. Everything after "--" stays an argument.
func interleave(args []string) []string {
	if len(args) < 2 {
		return args
	}
	command := args[1]
	flags := valueFlags(command)
	var options, rest []string
	for i := 2; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "--":
			rest = append(rest, args[i+1:]...)
			i = len(args)
		case len(a) < 2 || a[0] != '-':
			rest = append(rest, a)
		default:
			options = append(options, a)
			if takesValue(a, flags) && i+1 < len(args) {
				i++
				options = append(options, args[i])
			}
		}
	}
	out := append([]string{args[0], command}, options...)
	if len(rest) > 0 {
		out = append(out, "--")
	}
	return append(out, rest...)
}

func takesValue(option string, flags []string) bool {
	name := strings.TrimLeft(option, "-")
	return !strings.Contains(name, "=") && slices.Contains(flags, name)
}

// valueFlags are the names of a command's options that take a value.
func valueFlags(command string) []string {
	var names []string
	for _, c := range commands() {
		if !c.HasName(command) {
			continue
		}
		for _, f := range c.Flags {
			if _, isBool := f.(*cli.BoolFlag); !isBool {
				names = append(names, f.Names()...)
			}
		}
	}
	return names
}
