// Package nano embeds the model that the program restores with when it is
// given no other: a whole UniRestorer at small width, trained from free photos.
// docs/nano.md is its model card.
package nano

import (
	"embed"
	"io/fs"
)

// Name is what the model is called on command lines and in messages.
const Name = "nano"

//go:embed model
var files embed.FS

// Files is the model folder: config.json and its safetensors.
func Files() fs.FS {
	sub, err := fs.Sub(files, "model")
	if err != nil {
		panic(err) // the name is a constant that fs.Sub accepts
	}
	return sub
}
