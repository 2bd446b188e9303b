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
	valued, ok := valueFlags(args[1])
	if !ok {
		return args
	}
	options, rest := slices.Clone(args[:2]), []string{}
	for i := 2; i < len(args); i++ {
		switch a := args[i]; {
		case a == "--":
			rest = append(rest, args[i+1:]...)
			i = len(args)
		case len(a) < 2 || a[0] != '-':
			rest = append(rest, a)
		default:
			options = append(options, a)
			if !takesValue(a, valued) {
				continue
			}
			if i++; i == len(args) {
				return options // for the flag package to complain about the last one
			}
			options = append(options, args[i])
		}
	}
	if len(rest) == 0 {
		return options
	}
	return append(append(options, "--"), rest...)
}

func takesValue(option string, valued []string) bool {
	name := strings.TrimLeft(option, "-")
	return !strings.Contains(name, "=") && slices.Contains(valued, name)
}

// valueFlags are the names of a command's options that take a value; ok tells
// whether there is such a command.
func valueFlags(command string) (names []string, ok bool) {
	for _, c := range commands() {
		if !c.HasName(command) {
			continue
		}
		for _, f := range c.Flags {
			if _, isBool := f.(*cli.BoolFlag); !isBool {
				names = append(names, f.Names()...)
			}
		}
		return names, true
	}
	return nil, false
}
