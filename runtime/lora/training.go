package lora

import (
	"fmt"
	"regexp"
	"strconv"

	"unirestorer/graph/models"
)

// Training is what a model records of how an expert was trained.
type Training struct {
	Steps int `json:"steps"`
	// Hours is 0 where it is not recorded.
	Hours float64 `json:"hours,omitempty"`
}

func (t *Training) String() string {
	if t.Hours > 0 {
		return fmt.Sprintf("%d steps, %g h", t.Steps, t.Hours)
	}
	return fmt.Sprintf("%d steps", t.Steps)
}

// trainingNote is a note of a model's provenance: the expert's name, steps and hours.
var trainingNote = regexp.MustCompile(`^(.+): ([0-9]{1,12}) steps(?:, ([0-9.]+) h)?$`)

// trainingOf looks for a note on an expert's training in the model's provenance; nil without one.
func trainingOf(c *models.Config, expert int) *Training {
	for _, note := range c.Provenance.Notes {
		m := trainingNote.FindStringSubmatch(note)
		if m == nil || m[1] != c.Experts[expert].Name {
			continue
		}
		steps, err := strconv.Atoi(m[2])
		if err != nil {
			continue
		}
		hours, _ := strconv.ParseFloat(m[3], 64) // 0 where there are none
		return &Training{steps, hours}
	}
	return nil
}

// unequalBudget is how far steps may differ and count as equal.
const unequalBudget = 0.1

// condition says under which condition the comparison of a trained adapter with the full expert stands; empty for
// none. An extracted adapter has no training of its own.
func condition(full, adapter *Candidate) string {
	if adapter.Kind != kindTrained {
		return ""
	}
	f, a := full.Training, adapter.Training
	switch {
	case f == nil && a == nil:
		return "The model does not record how long either was trained, nor on what: the difference may be one of training, not of the kind of expert."
	case f == nil || a == nil:
		known, which, t := a, "adapter", "full expert"
		if f != nil {
			known, which, t = f, "full expert", "adapter"
		}
		return fmt.Sprintf("The %s was trained for %s; how long the %s was, the model does not record: the difference may be one of training, not of the kind of expert.", which, known, t)
	}
	low, high := min(f.Steps, a.Steps), max(f.Steps, a.Steps)
	if float64(high-low) <= unequalBudget*float64(high) {
		return ""
	}
	return fmt.Sprintf("Training was unequal: %s for the adapter, %s for the full expert. This compares these two experts, not LoRA with full training; there is no twin of equal budget in the pair.", a, f)
}
