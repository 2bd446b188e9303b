package convert

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/convert/onnx"
	"unirestorer/runtime/experts"
	"unirestorer/weights"
)

// Estimator stands for the degradation estimator, encoder and router, in the
// place of an expert's number.
const Estimator = -1

// WriteONNX writes an expert, or the Estimator, as an ONNX model. half stores
// weights in fp16.
func WriteONNX(w io.Writer, m *experts.Model, expert int, half bool) error {
	c := m.Config
	opt := onnx.Options{Half: half, Doc: c.Name}
	if expert == Estimator {
		g, err := c.BuildEstimator(m.Source, 1, models.Options{Layout: graph.NCHW})
		if err != nil {
			return err
		}
		return onnx.Write(w, g, false, opt)
	}
	net, err := c.Expert(expert)
	if err != nil {
		return err
	}
	if opt.Metadata, err = describeNetwork(net); err != nil {
		return err
	}
	opt.Doc += ", " + c.Experts[expert].Name
	return onnx.WriteNetwork(w, net, c.ExpertSource(m.Source, expert), opt)
}

// Texts in a file that hold what its tensors do not tell.
const (
	metaArchitecture = "unirestorer.architecture"
	metaArgs         = "unirestorer.args"
)

// writtenArgs are the network arguments that WriteExpert left in a file, nil for
// files of others.
func writtenArgs(f weights.File) json.RawMessage {
	meta := f.Metadata()
	fields := map[string]json.RawMessage{}
	if meta[metaArchitecture] == "" || json.Unmarshal([]byte(meta[metaArgs]), &fields) != nil {
		return nil
	}
	name, err := json.Marshal(meta[metaArchitecture])
	if err != nil {
		return nil
	}
	fields["architecture"] = name
	for _, port := range []string{"range", "channel_order", "size_multiple", "size_padding"} {
		if fields[port] == nil { // not what single networks have by default
			fields[port] = json.RawMessage("null")
		}
	}
	args, err := json.Marshal(fields)
	if err != nil {
		return nil
	}
	return args
}

// describeNetwork is what a file with a network keeps beside its tensors.
func describeNetwork(net models.Network) (map[string]string, error) {
	args, err := json.Marshal(net)
	return map[string]string{metaArchitecture: net.Architecture(), metaArgs: string(args), "format": "pt"}, err
}

// WriteExpert writes an expert's tensors, under the authors' names, as a
// safetensors file. An adapter is merged into its base. half rounds tensors to
// fp16 where that makes no value infinite.
func WriteExpert(ctx context.Context, w io.Writer, m *experts.Model, expert int, half bool) error {
	if expert == Estimator {
		return fmt.Errorf("the estimator has no authors' form by itself: write it as ONNX")
	}
	net, err := m.Config.Expert(expert)
	if err != nil {
		return err
	}
	specs, err := models.Stored(net)
	if err != nil {
		return err
	}
	src := m.Config.ExpertSource(m.Source, expert)
	var all []*weights.Tensor
	for _, s := range models.Used(specs) {
		t, err := src.Tensor(s.Name)
		if err != nil {
			return err
		}
		t = t.WithName(s.Name)
		want := weights.F32
		if half {
			want = weights.F16
		}
		if t.DType != want && t.DType.IsFloat() {
			if t, err = t.As(want); err != nil {
				return err
			}
		}
		all = append(all, t)
	}
	meta, err := describeNetwork(net)
	if err != nil {
		return err
	}
	return weights.EncodeSafetensors(ctx, w, all, meta)
}
