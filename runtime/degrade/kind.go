package degrade

import (
	"context"
	"fmt"
	"strings"
)

// Kind is a way to spoil an image. The values are stable: training records and checkpoints store them. Their order is
// the order in which terms of a mixed degradation are applied, except that the held-out kinds and camera noise stand at the end.
type Kind int

// The kinds that models are trained on, and then those that are kept for asking what a model does with the unknown.
const (
	Haze Kind = iota
	Rain
	Snow
	Defocus
	Motion
	LowLight
	Poisson
	Noise
	JPEG

	LowResolution
	Impulse

	// Camera is trained on, too; it came after the others, whose values stay.
	Camera

	kindCount
)

// kindInfo describes a kind. apply changes the image in place, gets every parameter in p and must draw its random numbers
// from streams that start with seed.
type kindInfo struct {
	name    string
	aliases []string
	title   string
	formula string
	source  string
	stage   int // position in the chain from scene to file
	heldOut bool
	params  []paramDef
	apply   func(ctx context.Context, img *Image, p params, seed uint64) error
}

// The chain from scene to file.
const (
	stageAir = iota
	stageLens
	stageExposure
	stageSensor
	stageFile
)

// info returns the description of a kind, which must be valid.
func (k Kind) info() *kindInfo { return &kinds()[k] }

// kinds returns the table of all kinds. It is a function so that nothing can change it.
func kinds() *[kindCount]kindInfo { return kindTable() }

// Valid reports whether k is one of the kinds of this package.
func (k Kind) Valid() bool { return k >= 0 && k < kindCount }

// String returns the name that [ParseKind] reads.
func (k Kind) String() string {
	if !k.Valid() {
		return fmt.Sprintf("Kind(%d)", int(k))
	}
	return k.info().name
}

// Title returns a short name for people, such as "rain streaks".
func (k Kind) Title() string {
	if !k.Valid() {
		return k.String()
	}
	return k.info().title
}

// HeldOut reports whether the kind is meant for evaluation only.
func (k Kind) HeldOut() bool { return k.Valid() && k.info().heldOut }

// MarshalText returns the name of the kind.
func (k Kind) MarshalText() ([]byte, error) {
	if !k.Valid() {
		return nil, fmt.Errorf("degradation kind %d does not exist", int(k))
	}
	return []byte(k.String()), nil
}

// UnmarshalText is [ParseKind].
func (k *Kind) UnmarshalText(text []byte) (err error) {
	*k, err = ParseKind(string(text))
	return err
}

// Kinds returns the kinds that models are trained on, in the order of their values.
func Kinds() []Kind { return selectKinds(false) }

// HeldOutKinds returns the kinds that are kept out of training.
func HeldOutKinds() []Kind { return selectKinds(true) }

func selectKinds(heldOut bool) []Kind {
	var list []Kind
	for k := range kindCount {
		if k.info().heldOut == heldOut {
			list = append(list, k)
		}
	}
	return list
}

// ParseKind finds a kind by its name or an alias such as "gaussian" for "noise"; case, '-' and '_' don't matter.
func ParseKind(name string) (Kind, error) {
	plain := strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(strings.TrimSpace(name)))
	var known []string
	for k := range kindCount {
		info := k.info()
		if plain == info.name {
			return k, nil
		}
		for _, alias := range info.aliases {
			if plain == alias {
				return k, nil
			}
		}
		known = append(known, info.name)
	}
	return 0, fmt.Errorf("unknown degradation %q (known: %s)", name, strings.Join(known, ", "))
}
