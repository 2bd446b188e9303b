// Command embed restores one image file: embed IN OUT.
package main

import (
	"context"
	"log"
	"os"

	"unirestorer"
)

func main() {
	ctx := context.Background()
	r, err := unirestorer.Open(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	if _, err := r.RestoreFile(ctx, os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}
