package serve

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"unirestorer"
)

// routedModel is the model that routes; each expert is a model of its own name.
const routedModel = "unirestorer"

// Tensors of the Open Inference Protocol. A request has one of the inputs.
//
//	image  UINT8 [N,H,W,C] or [H,W,C]: rows of interleaved sRGB samples; C is 1 (grey), 3 (RGB) or 4 (RGBA)
//	file   BYTES [N]: image files
//	route  BYTES [N], output only: the way through the router, as JSON
const (
	tensorImage = "image"
	tensorFile  = "file"
	tensorRoute = "route"
)

// tensorInfo describes a tensor; -1 stands for any size.
type tensorInfo struct {
	Name     string  `json:"name"`
	Datatype string  `json:"datatype"`
	Shape    []int64 `json:"shape"`
}

var (
	inferInputs  = []tensorInfo{{tensorImage, "UINT8", []int64{-1, -1, -1, -1}}, {tensorFile, "BYTES", []int64{-1}}}
	inferOutputs = append(slices.Clone(inferInputs), tensorInfo{tensorRoute, "BYTES", []int64{-1}})
)

// tensor is a tensor's values: samples of an image, or items of bytes.
type tensor struct {
	tensorInfo
	samples []byte
	items   [][]byte
}

// maxItems bounds the pictures of one request.
const maxItems = 64

// raw is the tensor as the protocol has it in bytes: every item after its length, 32 bits, little-endian.
func (t *tensor) raw() []byte {
	if t.Datatype != "BYTES" {
		return t.samples
	}
	var out []byte
	for _, item := range t.items {
		out = append(binary.LittleEndian.AppendUint32(out, uint32(len(item))), item...)
	}
	return out
}

// setRaw takes a tensor's bytes, which stay where they are.
func (t *tensor) setRaw(data []byte) error {
	if t.Datatype != "BYTES" {
		t.samples = data
		return nil
	}
	for len(data) > 0 {
		if len(data) < 4 {
			return badRequest("input %q: %d bytes are left over", t.Name, len(data))
		}
		n := binary.LittleEndian.Uint32(data)
		if data = data[4:]; uint64(n) > uint64(len(data)) {
			return badRequest("input %q: an item of %d bytes, %d are left", t.Name, n, len(data))
		}
		if len(t.items) == maxItems {
			return badRequest("input %q: more than %d items", t.Name, maxItems)
		}
		t.items = append(t.items, data[:n:n])
		data = data[n:]
	}
	return nil
}

// count checks a tensor against its shape, and tells how many pictures it has.
func (t *tensor) count() (int, error) {
	var known *tensorInfo
	for i := range inferInputs {
		if inferInputs[i].Name == t.Name {
			known = &inferInputs[i]
		}
	}
	switch {
	case known == nil:
		return 0, badRequest("no input %q; there are image and file", t.Name)
	case known.Datatype != t.Datatype:
		return 0, badRequest("input %q: datatype %q, want %s", t.Name, t.Datatype, known.Datatype)
	case len(t.Shape) != len(known.Shape) && !(t.Name == tensorImage && len(t.Shape) == 3):
		return 0, badRequest("input %q: %d dimensions, want %d", t.Name, len(t.Shape), len(known.Shape))
	}
	size := int64(1)
	for _, d := range t.Shape {
		if d < 1 || d > 1<<31/size {
			return 0, badRequest("input %q: shape %v makes no sense", t.Name, t.Shape)
		}
		size *= d
	}
	have := int64(len(t.samples))
	if t.Name == tensorFile {
		have = int64(len(t.items))
	}
	if size != have {
		return 0, badRequest("input %q: %d values, the shape %v has %d", t.Name, have, t.Shape, size)
	}
	n := int64(1)
	if t.Name == tensorFile || len(t.Shape) == 4 {
		n = t.Shape[0]
	}
	if n > maxItems {
		return 0, badRequest("input %q: %d pictures at a time, at most %d are taken", t.Name, n, maxItems)
	}
	return int(n), nil
}

// picture is picture i of an image tensor, which stays where it is.
func (t *tensor) picture(i int, maxPixels int64) (*unirestorer.Picture, error) {
	s := t.Shape[len(t.Shape)-3:]
	if c := s[2]; c != 1 && c != 3 && c != 4 {
		return nil, badRequest("input %q: %d channels, want 1, 3 or 4", t.Name, c)
	}
	if s[0]*s[1] > maxPixels {
		return nil, &requestError{http.StatusRequestEntityTooLarge, fmt.Errorf("input %q: a picture of %d pixels, %d are allowed", t.Name, s[0]*s[1], maxPixels)}
	}
	size := int(s[0] * s[1] * s[2])
	return &unirestorer.Picture{W: int(s[1]), H: int(s[0]), Channels: int(s[2]), Depth: 8, Pix: t.samples[i*size : (i+1)*size : (i+1)*size]}, nil
}

// served checks the parameters of a tensor for Triton's extensions that would change where or what its values are.
func served[V any](kind, name string, parameters map[string]V) error {
	for p := range parameters {
		if strings.HasPrefix(p, "shared_memory_") || p == "classification" {
			return badRequest("%s %q: %s is an extension that is not served", kind, name, p)
		}
	}
	return nil
}

// knows tells whether there is a model of a name and version.
func (s *Server) knows(model, version string) error {
	known := model == routedModel || slices.ContainsFunc(s.experts, func(e unirestorer.Expert) bool { return e.Name == model })
	if !known || version != "" && version != "1" {
		return &requestError{http.StatusNotFound, fmt.Errorf("no model %q of version %q", model, version)}
	}
	return nil
}

// infer restores the pictures of a request of the Open Inference Protocol.
func (s *Server) infer(ctx context.Context, rec *record, model string, options url.Values, inputs []tensor, outputs []string) ([]tensor, error) {
	if len(inputs) != 1 {
		return nil, badRequest("%d inputs, want image or file", len(inputs))
	}
	in := &inputs[0]
	n, err := in.count()
	if err != nil {
		return nil, err
	}
	if len(outputs) == 0 {
		outputs = []string{in.Name, tensorRoute}
	}
	for i, o := range outputs {
		if o != in.Name && o != tensorRoute {
			return nil, badRequest("output %q: an input %q gives %q and %q", o, in.Name, in.Name, tensorRoute)
		}
		if slices.Contains(outputs[:i], o) { // a small request could ask for any number of copies
			return nil, badRequest("output %q is asked for more than once", o)
		}
	}
	ctx, cancel, err := urgency(ctx, rec, options)
	if err != nil {
		return nil, err
	}
	defer cancel()
	if model != routedModel {
		if e := options.Get("expert"); e != "" && e != model {
			return nil, badRequest("expert %q was asked for, and the model %q is another; %q takes any", e, model, routedModel)
		}
		options.Set("expert", model)
	}
	c, err := s.choose(options, rec)
	if err != nil {
		return nil, err
	}
	out := tensor{tensorInfo: tensorInfo{in.Name, in.Datatype, in.Shape}}
	routes := tensor{tensorInfo: tensorInfo{tensorRoute, "BYTES", []int64{int64(n)}}}
	for i := range n {
		var result *unirestorer.Result
		err := s.work(ctx, rec, func(ctx context.Context) (err error) {
			result, err = s.inferOne(ctx, in, i, c, &out)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("picture %d: %w", i, err)
		}
		s.done(rec, result)
		route, err := json.Marshal(routeOf(result.Route))
		if err != nil {
			return nil, err
		}
		routes.items = append(routes.items, route)
	}
	var answers []tensor
	for _, name := range outputs {
		if name == tensorRoute {
			answers = append(answers, routes)
		} else {
			answers = append(answers, out)
		}
	}
	return answers, nil
}

// urgency takes Triton's parameters out of a request's: priority, 1 being the most urgent and 0 as without it, and timeout in
// microseconds.
func urgency(ctx context.Context, rec *record, options url.Values) (context.Context, context.CancelFunc, error) {
	cancel := func() {}
	if v := options.Get("priority"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return ctx, cancel, badRequest("priority %q: want a number, 1 being the most urgent", v)
		}
		if n > 0 {
			rec.priority = 4 - int(min(n, 8))
		}
	}
	if v := options.Get("timeout"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return ctx, cancel, badRequest("timeout %q: want microseconds", v)
		}
		if n > 0 {
			ctx, cancel = context.WithTimeout(ctx, time.Duration(min(n, int64(time.Hour/time.Microsecond)))*time.Microsecond)
		}
	}
	options.Del("priority")
	options.Del("timeout")
	return ctx, cancel, nil
}

func (s *Server) inferOne(ctx context.Context, in *tensor, i int, c choices, out *tensor) (*unirestorer.Result, error) {
	if in.Name == tensorFile {
		var file bytes.Buffer
		result, err := s.r.RestoreStream(ctx, bytes.NewBuffer(in.items[i]), &file, c.opts...)
		out.items = append(out.items, file.Bytes())
		return result, err
	}
	p, err := in.picture(i, s.c.MaxPixels)
	if err != nil {
		return nil, err
	}
	result, err := s.r.Restore(ctx, p, c.opts...)
	if err != nil {
		return nil, err
	}
	restored, ok := result.Image.(*unirestorer.Picture)
	if !ok || len(restored.Pix) != len(p.Pix) {
		return nil, fmt.Errorf("a result of another shape than its picture's")
	}
	out.samples = append(out.samples, restored.Pix...)
	return result, nil
}
