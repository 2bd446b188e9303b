package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"unirestorer/runtime/platform"
)

func devicesCommand() *cli.Command {
	return &cli.Command{
		Name:  "devices",
		Usage: "list the devices that networks can run on",
		Description: "Prints every device this program knows to use, whether it can be used here, and if not, why.\n\n" +
			"Examples:\n" +
			"   unirestorer devices\n" +
			"   unirestorer devices --json",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usagef("devices takes no arguments")
			}
			all := platform.List()
			if c.Bool("json") {
				return writeJSON(c.App.Writer, all)
			}
			w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "DEVICE\tUSABLE\tDESCRIPTION")
			for _, d := range all {
				usable, text := "yes", d.Description
				if !d.Available {
					usable, text = "no", d.Reason
				}
				fmt.Fprintf(w, "%s\t%s\t%s\n", d.Name, usable, text)
			}
			return w.Flush()
		},
	}
}
