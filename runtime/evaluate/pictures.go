package evaluate

import (
	"errors"
	"fmt"

	"unirestorer/runtime/imaging"
)

// Pictures are files that are read one at a time, when they are asked for.
type Pictures struct {
	files   []string
	maxSide int
}

// OpenPictures lists image files and the image files below folders, in the order given and by name within a folder. Pictures
// whose longer side exceeds maxSide pixels are made smaller as [LoadPhotos] does, unless it is 0.
func OpenPictures(paths []string, maxSide int) (*Pictures, error) {
	files, err := imageFiles(paths)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("no pictures found")
	}
	return &Pictures{files, maxSide}, nil
}

// Len is the number of pictures.
func (p *Pictures) Len() int { return len(p.files) }

// Name is the file of picture i.
func (p *Pictures) Name(i int) string { return p.files[i] }

// Open reads picture i, upright.
func (p *Pictures) Open(i int) (*imaging.Image, error) {
	img, err := imaging.DecodeFile(p.files[i], imaging.Limits{})
	if err != nil {
		return nil, err
	}
	img = img.Oriented()
	if p.maxSide == 0 {
		return img, nil
	}
	small, err := shrink(img, p.maxSide)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.files[i], err)
	}
	return small, nil
}
