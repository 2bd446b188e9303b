package video

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"unirestorer"
)

// Options shape how a clip is restored.
type Options struct {
	// Route are the options that the route of a scene is found with: level, degradations, expert.
	Route []unirestorer.CallOption
	// Picture are those of every frame: strength, tiles, guard.
	Picture []unirestorer.CallOption
	// Settings identify what pixels depend on beside the clip, so that a run goes on only with what it began with.
	Settings string
	// Cut is the change that makes a scene, DefaultCut if 0; Hysteresis the margin for changing the route, negative for
	// DefaultHysteresis.
	Cut, Hysteresis float64
	// Reference is a clean clip to compare the consistency with; empty for none.
	Reference string
	// NoMeasure leaves the consistency unmeasured.
	NoMeasure bool
	// Restart throws away what an earlier run of other settings left.
	Restart bool
	// Encoder chooses how ffmpeg encodes.
	Encoder Encoder
	// Tonemap names how HDR becomes SDR; empty refuses HDR.
	Tonemap string
	// Progress is told after every frame, Say what people should read. Both may be nil and come from one goroutine at a time each.
	Progress func(Progress)
	Say      func(string)

	total   int64
	segment int64 // frames of one, where it is not chosen by their size
	every   int64 // number of pairs of frames of which one is measured, measureEvery if 0
}

// Encoder says how ffmpeg encodes.
type Encoder struct {
	// Codec is the name of an encoder of ffmpeg; empty chooses by the source and the file.
	Codec string
	// CRF is the constant rate factor, "" for a default that is hard to tell from the source; Preset the encoder's.
	CRF, Preset string
	// Options are more of the encoder's, as name=value.
	Options []string
	// Audio is "copy" or an encoder; empty copies.
	Audio string
}

// Scene is a part of a clip without a cut.
type Scene struct {
	// First is the number of its first frame, from 0.
	First       int64  `json:"first_frame"`
	Expert      int    `json:"expert"`
	Name        string `json:"expert_name"`
	Degradation string `json:"degradation,omitempty"`
	Level       string `json:"level,omitempty"`
	// Kept says in words which route the scene would have had alone, where that of the scene before was kept.
	Kept string `json:"kept,omitempty"`

	route *unirestorer.Route
}

// change gives the scene another route and says what its own would have been.
func (s *Scene) change(to *unirestorer.Route) string {
	own := s.route
	s.route = to
	if own.Decision.Expert == to.Decision.Expert {
		return ""
	}
	return fmt.Sprintf("alone it would be expert %d %q", own.Expert.Index, own.Expert.Name)
}

func (s *Scene) describe() {
	s.Expert, s.Name = s.route.Expert.Index, s.route.Expert.Name
	s.Degradation, s.Level = s.route.Degradation, s.route.Level
}

func (s *Scene) String() string {
	line := fmt.Sprintf("scene from frame %d: expert %d %q", s.First, s.Expert, s.Name)
	if s.route != nil {
		line += "; " + s.route.String()
	}
	if s.Kept != "" {
		line += "; " + s.Kept + ", the difference is small"
	}
	return line
}

// stored is a scene in a journal, with its whole route.
type stored struct {
	Scene
	Route *unirestorer.Route `json:"route"`
}

func toStored(all []Scene) []stored {
	out := make([]stored, len(all))
	for i, s := range all {
		out[i] = stored{s, s.route}
	}
	return out
}

func scenesOf(all []stored) []Scene {
	out := make([]Scene, len(all))
	for i, s := range all {
		out[i] = s.Scene
		out[i].route = s.Route
	}
	return out
}

// Report says what became of a clip.
type Report struct {
	In     string  `json:"in"`
	Out    string  `json:"out"`
	Width  int     `json:"width"`
	Height int     `json:"height"`
	Device string  `json:"device"`
	Frames int64   `json:"frames"`
	Scenes []Scene `json:"scenes"`
	// Resumed is how many frames earlier runs had done.
	Resumed int64 `json:"resumed,omitempty"`
	// Seconds and Rate are of this run.
	Seconds     float64      `json:"seconds"`
	Rate        float64      `json:"frames_per_second"`
	Consistency *Consistency `json:"consistency,omitempty"`
	Notes       []string     `json:"notes,omitempty"`

	noted map[string]bool
}

// note keeps what was said of a frame, once.
func (r *Report) note(say func(string), n int64, res *unirestorer.Result) {
	for _, w := range res.Warnings {
		kind := strings.Map(func(c rune) rune { // the same for other numbers
			if c >= '0' && c <= '9' {
				return -1
			}
			return c
		}, w)
		if !r.noted[kind] && !strings.HasPrefix(w, "nothing was found") {
			r.remark(say, kind, fmt.Sprintf("from frame %d: %s", n, w))
		}
	}
}

func (r *Report) remark(say func(string), kind, text string) {
	if r.noted == nil {
		r.noted = map[string]bool{}
	}
	if r.noted[kind] {
		return
	}
	r.noted[kind] = true
	r.Notes = append(r.Notes, text)
	if say != nil {
		say(text)
	}
}

// String is a line for people.
func (r *Report) String() string {
	s := fmt.Sprintf("%s → %s: %d frames of %d×%d in %d scenes on %s, %.3g frames/s", r.In, r.Out, r.Frames, r.Width, r.Height, len(r.Scenes), r.Device, r.Rate)
	if c := r.Consistency; c != nil {
		s += fmt.Sprintf("; from frame to frame %.2f of the clip's own differences (%.2f before, %.2f after, gain %.2f)", c.Ratio, c.Before, c.After, c.Gain)
		if c.RatioClean > 0 {
			s += fmt.Sprintf(", %.2f of the clean clip's", c.RatioClean)
		}
	}
	return s
}

func (r *Report) finish(v *run) {
	r.Scenes = v.scenes
	r.Resumed = v.skipped
	r.Seconds = time.Since(v.started).Seconds()
	if r.Seconds > 0 {
		r.Rate = float64(r.Frames-v.skipped) / r.Seconds
	}
	r.Consistency = v.measured.consistency()
}

var _ json.Marshaler = Ratio{}

// MarshalJSON writes a ratio as text.
func (r Ratio) MarshalJSON() ([]byte, error) { return json.Marshal(r.String()) }
