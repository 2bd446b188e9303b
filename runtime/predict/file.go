package predict

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"unirestorer/runtime/ptxsim"
)

// further are cards as data: each names one of Cards that it is like and says
// what differs.
//
//go:embed cards.json
var further []byte

// leastArch is the oldest compute capability that the kernels run on: they copy
// to shared memory asynchronously, which came with 8.0.
const leastArch = 80

// All are Cards and those of cards.json.
func All() ([]Card, error) {
	var entries []json.RawMessage
	if err := json.Unmarshal(further, &entries); err != nil {
		return nil, fmt.Errorf("cards.json: %w", err)
	}
	all := Cards()
	for _, e := range entries {
		c, err := parse(e, all)
		if err != nil {
			return nil, fmt.Errorf("cards.json: %w", err)
		}
		all = append(all, c)
	}
	return all, nil
}

// Load is the card of a name, or of a file that ends in .json. A file's card has
// the fields of Card; what it leaves out is taken from the card that its field
// "like" names. Cards that the kernels cannot run on are an error.
func Load(name string) (Card, error) {
	all, err := All()
	if err != nil {
		return Card{}, err
	}
	var c Card
	if strings.EqualFold(filepath.Ext(name), ".json") {
		if c, err = read(name, all); err != nil {
			return Card{}, fmt.Errorf("GPU %s: %w", name, err)
		}
	} else if c, err = find(all, name, "; or a file .json"); err != nil {
		return Card{}, err
	}
	if c.Arch < leastArch {
		return Card{}, fmt.Errorf("the kernels do not run on %s: its compute capability is %d.%d, they need %d.%d", c.Title, c.Arch/10, c.Arch%10, leastArch/10, leastArch%10)
	}
	return c, nil
}

func read(path string, known []Card) (Card, error) {
	const most = 1 << 20
	f, err := os.Open(path)
	if err != nil {
		return Card{}, err
	}
	defer f.Close() // only read
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return Card{}, err
	}
	if len(data) > most {
		return Card{}, errors.New("larger than a card's description is")
	}
	return parse(data, known)
}

func parse(data []byte, known []Card) (Card, error) {
	var base struct {
		Like string `json:"like"`
	}
	if err := json.Unmarshal(data, &base); err != nil {
		return Card{}, err
	}
	var c struct {
		Like string `json:"like"`
		Card
	}
	if base.Like != "" {
		i := slices.IndexFunc(known, func(c Card) bool { return strings.EqualFold(c.Name, base.Like) })
		if i < 0 {
			return Card{}, fmt.Errorf("like %q: no such card", base.Like)
		}
		c.Card = known[i]
		c.Name, c.Title, c.Source = "", "", ""
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Card{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Card{}, errors.New("more than one JSON value")
	}
	return c.Card, c.Card.check()
}

// check reports what a card lacks.
func (c Card) check() error {
	if c.Name == "" || c.Title == "" || c.Source == "" {
		return fmt.Errorf("card %q: name, title and source must be given", c.Name)
	}
	if c.Arch < leastArch {
		return nil // for the message of Load
	}
	if _, ok := ptxsim.ArchOf(c.Arch); !ok {
		return fmt.Errorf("card %q: arch %d is not known", c.Name, c.Arch)
	}
	if c.SMs < 1 || c.SMs > 1<<12 {
		return fmt.Errorf("card %q: %d sms", c.Name, c.SMs)
	}
	for what, v := range map[string]float64{
		"clock": c.Clock, "tensor": c.Tensor, "fp32": c.FP32, "integer": c.Integer, "half": c.Half, "convert": c.Convert, "special": c.Special,
		"l2": c.L2, "hbm": c.HBM, "l2_size": c.L2Size, "gap": c.Gap, "early_gap": c.EarlyGap,
	} {
		if !(v > 0) || math.IsInf(v, 0) {
			return fmt.Errorf("card %q: %s is %g, want more than 0", c.Name, what, v)
		}
	}
	return nil
}
