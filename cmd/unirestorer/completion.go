package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// completeFlag is the argument with which shells ask for the words that may follow.
const completeFlag = "--generate-bash-completion"

// completing tells whether a shell asks for words; options must then stay where they are.
func completing(args []string) bool { return len(args) > 1 && args[len(args)-1] == completeFlag }

const bashCompletion = `# Completion of unirestorer for bash.
_unirestorer() {
	local cur=${COMP_WORDS[COMP_CWORD]} words
	words=$("${COMP_WORDS[@]:0:COMP_CWORD}" $([[ $cur == -* ]] && echo "$cur") ` + completeFlag + ` 2>/dev/null)
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur"; compgen -f -- "$cur")
}
complete -o filenames -o bashdefault -F _unirestorer unirestorer
`

const zshCompletion = `#compdef unirestorer
_unirestorer() {
	local -a found
	local cur=${words[CURRENT]}
	if [[ $cur == -* ]]; then
		found=("${(@f)$(${words[1,CURRENT-1]} $cur ` + completeFlag + ` 2>/dev/null)}")
	else
		found=("${(@f)$(${words[1,CURRENT-1]} ` + completeFlag + ` 2>/dev/null)}")
	fi
	_describe 'unirestorer' found
	_files
}
compdef _unirestorer unirestorer
`

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print what a shell needs to complete command lines",
		ArgsUsage: "bash|zsh|fish",
		Description: "Examples:\n" +
			"   unirestorer completion bash > /etc/bash_completion.d/unirestorer\n" +
			"   unirestorer completion zsh > \"${fpath[1]}/_unirestorer\"\n" +
			"   unirestorer completion fish > ~/.config/fish/completions/unirestorer.fish",
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef("completion takes the name of one shell: bash, zsh or fish")
			}
			var text string
			var err error
			switch shell := c.Args().First(); shell {
			case "bash":
				text = bashCompletion
			case "zsh":
				text = zshCompletion
			case "fish":
				// The library's help command becomes its own subcommand when it has run in this process.
				if help := c.App.Command("help"); help != nil {
					help.Subcommands = nil
				}
				text, err = c.App.ToFishCompletion()
			default:
				return usagef("no completion for %q; there is one for bash, zsh and fish", shell)
			}
			if err == nil {
				_, err = fmt.Fprint(c.App.Writer, text)
			}
			return err
		},
	}
}

func manCommand() *cli.Command {
	return &cli.Command{
		Name:   "man",
		Usage:  "print the manual page",
		Hidden: true,
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usagef("man takes no arguments")
			}
			text, err := c.App.ToManWithSection(1)
			if err == nil {
				_, err = fmt.Fprint(c.App.Writer, text)
			}
			return err
		},
	}
}
