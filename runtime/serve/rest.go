package serve

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"unirestorer"
)

// The Open Inference Protocol over REST, with its extension for tensors in bytes behind the JSON.

const binaryHeader = "Inference-Header-Content-Length"

// extensions of the protocol that are understood.
var extensions = []string{"binary_tensor_data"}

type restTensor struct {
	tensorInfo
	Parameters map[string]any  `json:"parameters,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"`
}

type restOutput struct {
	Name       string         `json:"name"`
	Parameters map[string]any `json:"parameters"`
}

type restRequest struct {
	ID         string         `json:"id"`
	Parameters map[string]any `json:"parameters"`
	Inputs     []restTensor   `json:"inputs"`
	Outputs    []restOutput   `json:"outputs"`
}

type restResponse struct {
	Model   string       `json:"model_name"`
	Version string       `json:"model_version"`
	ID      string       `json:"id,omitempty"`
	Outputs []restTensor `json:"outputs"`
}

// oipRoutes are the protocol's paths.
func (s *Server) oipRoutes() map[string]handle {
	all := map[string]handle{
		"GET /v2":              s.serverMetadata,
		"GET /v2/health/live":  s.live,
		"GET /v2/health/ready": s.ready,
	}
	for _, m := range []string{"/v2/models/{model}", "/v2/models/{model}/versions/{version}"} {
		all["GET "+m] = s.modelMetadata
		all["GET "+m+"/ready"] = s.modelReady
		all["POST "+m+"/infer"] = s.modelInfer
	}
	return all
}

func (s *Server) serverMetadata(w http.ResponseWriter, _ *http.Request, _ *record) error {
	writeJSON(w, http.StatusOK, map[string]any{"name": "unirestorer", "version": unirestorer.Version(), "extensions": extensions})
	return nil
}

func (s *Server) modelReady(w http.ResponseWriter, r *http.Request, rec *record) error {
	if err := s.knows(r.PathValue("model"), r.PathValue("version")); err != nil {
		return err
	}
	return s.ready(w, r, rec)
}

func (s *Server) modelMetadata(w http.ResponseWriter, r *http.Request, _ *record) error {
	model := r.PathValue("model")
	if err := s.knows(model, r.PathValue("version")); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"name": model, "versions": []string{"1"}, "platform": "unirestorer", "inputs": inferInputs, "outputs": inferOutputs,
	})
	return nil
}

func (s *Server) modelInfer(w http.ResponseWriter, r *http.Request, rec *record) error {
	model := r.PathValue("model")
	if err := s.knows(model, r.PathValue("version")); err != nil {
		return err
	}
	in, err := s.read(r.Context(), w, r, url.Values{})
	if err != nil {
		return err
	}
	defer func() { in.release() }()
	q, inputs, err := parseInfer(in.Bytes(), r.Header.Get(binaryHeader))
	if err != nil {
		return err
	}
	options, err := parameters(q.Parameters)
	if err != nil {
		return err
	}
	allBinary := options.Get("binary_data_output") == "true"
	options.Del("binary_data_output")
	var wanted []string
	for _, o := range q.Outputs {
		if err := served("output", o.Name, o.Parameters); err != nil {
			return err
		}
		wanted = append(wanted, o.Name)
	}
	outputs, err := s.infer(r.Context(), rec, model, options, inputs, wanted)
	if err != nil {
		return err
	}
	answer := restResponse{Model: model, Version: "1", ID: q.ID}
	var raws [][]byte
	for i, t := range outputs {
		out := restTensor{tensorInfo: t.tensorInfo}
		binary := allBinary
		if i < len(q.Outputs) {
			if b, ok := q.Outputs[i].Parameters["binary_data"].(bool); ok {
				binary = b
			}
		}
		if binary {
			raw := t.raw()
			out.Parameters = map[string]any{"binary_data_size": len(raw)}
			raws = append(raws, raw)
		} else {
			out.Data = t.json()
		}
		answer.Outputs = append(answer.Outputs, out)
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	size := len(text)
	if len(raws) > 0 {
		h.Set("Content-Type", "application/octet-stream")
		h.Set(binaryHeader, strconv.Itoa(len(text)))
		for _, raw := range raws {
			size += len(raw)
		}
	}
	in.release() // the answer takes the request's place
	if in, err = s.reserve(r.Context(), min(int64(size), s.c.Bodies)); err != nil {
		return err
	}
	h.Set("Content-Length", strconv.Itoa(size))
	out := s.steadyWriter(w)
	for _, part := range append([][]byte{text}, raws...) {
		if _, err := out.Write(part); err != nil {
			rec.err = fmt.Errorf("write the answer: %w", err)
			panic(http.ErrAbortHandler)
		}
	}
	out.done()
	return nil
}

// parseInfer reads a request: JSON, and the bytes of tensors behind it where header says how long it is.
func parseInfer(data []byte, header string) (q restRequest, inputs []tensor, err error) {
	text, rest := data, []byte(nil)
	if header != "" {
		n, err := strconv.Atoi(header)
		if err != nil || n < 0 || n > len(data) {
			return q, nil, badRequest("%s %q: the body has %d bytes", binaryHeader, header, len(data))
		}
		text, rest = data[:n], data[n:]
	}
	if err := json.Unmarshal(text, &q); err != nil {
		return q, nil, badRequest("read the request: %w", plainly(err))
	}
	for _, in := range q.Inputs {
		if err := served("input", in.Name, in.Parameters); err != nil {
			return q, nil, err
		}
		t := tensor{tensorInfo: in.tensorInfo}
		if size, ok := in.Parameters["binary_data_size"]; ok {
			if len(in.Data) > 0 {
				return q, nil, badRequest("input %q: values in JSON and binary_data_size, want one", in.Name)
			}
			n, ok := size.(float64)
			if !ok || n < 0 || n != math.Trunc(n) || n > float64(len(rest)) {
				return q, nil, badRequest("input %q: binary_data_size %v, %d bytes are left", in.Name, size, len(rest))
			}
			err = t.setRaw(rest[:int(n):int(n)])
			rest = rest[int(n):]
		} else {
			err = t.setJSON(in.Data)
		}
		if err != nil {
			return q, nil, err
		}
		inputs = append(inputs, t)
	}
	if len(rest) > 0 {
		return q, nil, badRequest("%d bytes are left over behind the tensors", len(rest))
	}
	return q, inputs, nil
}

// plainly is an error of JSON without the names of this program's types.
func plainly(err error) error {
	var kind *json.UnmarshalTypeError
	if !errors.As(err, &kind) {
		return err
	}
	where := strings.ReplaceAll(kind.Field, "tensorInfo.", "")
	if where == "" {
		return fmt.Errorf("a JSON %s, want an object", kind.Value)
	}
	return fmt.Errorf("%s: a JSON %s has no place there", where, kind.Value)
}

// parameters are a request's options, as the query of /v1/restore has them.
func parameters(all map[string]any) (url.Values, error) {
	options := url.Values{}
	for name, v := range all {
		switch v := v.(type) {
		case string:
			options.Set(name, v)
		case bool:
			options.Set(name, strconv.FormatBool(v))
		case float64:
			options.Set(name, strconv.FormatFloat(v, 'f', -1, 64))
		default:
			return nil, badRequest("parameter %q: want a text, a number or a truth value", name)
		}
	}
	return options, nil
}

// setJSON reads values in JSON: numbers, in rows or in one list, or items in base64.
func (t *tensor) setJSON(data json.RawMessage) error {
	if t.Datatype == "BYTES" {
		var items []string
		if err := json.Unmarshal(data, &items); err != nil {
			return badRequest("input %q: %w", t.Name, err)
		}
		for _, s := range items {
			item, err := base64.StdEncoding.DecodeString(s)
			if err != nil {
				return badRequest("input %q: items are in base64: %w", t.Name, err)
			}
			t.items = append(t.items, item)
		}
		return nil
	}
	// Brackets only group; the shape says how. The JSON is known to be valid.
	t.samples = make([]byte, 0, len(data)/4)
	for field := range bytes.FieldsFuncSeq(data, func(r rune) bool { return r == '[' || r == ']' || r == ',' || r <= ' ' }) {
		n, err := strconv.ParseUint(string(field), 10, 8)
		if err != nil {
			return badRequest("input %q: %q is no UINT8", t.Name, field)
		}
		t.samples = append(t.samples, byte(n))
	}
	return nil
}

// json is a tensor's values as JSON.
func (t *tensor) json() json.RawMessage {
	out := []byte{'['}
	for i, v := range t.samples {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendUint(out, uint64(v), 10)
	}
	for i, item := range t.items {
		if i > 0 {
			out = append(out, ',')
		}
		text := string(item)
		if t.Name != tensorRoute {
			text = base64.StdEncoding.EncodeToString(item)
		}
		quoted, _ := json.Marshal(text) // a text
		out = append(out, quoted...)
	}
	return append(out, ']')
}
