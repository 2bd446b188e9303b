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
	command, words := named(args)
	if command == nil {
		return args
	}
	valued := valueFlags(command)
	options, rest := slices.Clone(args[:words]), []string{}
	for i := words; i < len(args); i++ {
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

// named finds the command that the first words of args name, the program's own
// name included, and how many words that takes; nil if there is none.
func named(args []string) (command *cli.Command, words int) {
	among := commands()
	for words = 1; words < len(args); words++ {
		i := slices.IndexFunc(among, func(c *cli.Command) bool { return c.HasName(args[words]) })
		if i < 0 {
			break
		}
		command = among[i]
		among = command.Subcommands
	}
	return command, words
}

// valueFlags are the names of a command's options that take a value.
func valueFlags(c *cli.Command) []string {
	var names []string
	for _, f := range c.Flags {
		if _, isBool := f.(*cli.BoolFlag); !isBool {
			names = append(names, f.Names()...)
		}
	}
	return names
}
