package onnx_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/x448/float16"
	"google.golang.org/protobuf/encoding/protowire"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/convert/onnx"
	"unirestorer/runtime/cpu"
	"unirestorer/runtime/experts"
	"unirestorer/weights"
	"unirestorer/weights/nano"
)

// peers is where ONNX Runtime is installed; see tools/peers/README.md.
const peers = "../../../tools/peers"

// runtime is a running ONNX Runtime.
type runtime struct {
	t   *testing.T
	dir string
	in  io.WriteCloser
	out *bufio.Reader
	// models counts the files that load wrote.
	models int
}

// onnxRuntime starts ONNX Runtime, or skips the test where it is not installed.
func onnxRuntime(t *testing.T) *runtime {
	t.Helper()
	if _, err := os.Stat(filepath.Join(peers, "node_modules", "onnxruntime-node")); err != nil {
		t.Skip("ONNX Runtime is not installed: npm ci --ignore-scripts --prefix tools/peers")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("there is no node")
	}
	cmd := exec.Command(node, "run.mjs", peers)
	cmd.Stderr = os.Stderr
	r := &runtime{t: t, dir: t.TempDir()}
	r.in, err = cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	r.out = bufio.NewReader(out)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		r.in.Close()
		cmd.Wait()
	})
	return r
}

// load keeps a model in a file.
func (r *runtime) load(model []byte) string {
	r.t.Helper()
	r.models++
	path := filepath.Join(r.dir, fmt.Sprintf("%d.onnx", r.models))
	require.NoError(r.t, os.WriteFile(path, model, 0o666))
	return path
}

// run computes the outputs of a model's file for an input.
func (r *runtime) run(model string, input []float32, shape []int, outputs ...string) [][]float32 {
	r.t.Helper()
	at := func(name string) string { return filepath.Join(r.dir, name) }
	require.NoError(r.t, os.WriteFile(at("input"), raw(input), 0o666))
	files := map[string]string{}
	for _, name := range outputs {
		files[name] = at("output-" + name)
	}
	request, err := json.Marshal(map[string]any{"model": model, "input": at("input"), "shape": shape, "outputs": files})
	require.NoError(r.t, err)
	_, err = r.in.Write(append(request, '\n'))
	require.NoError(r.t, err)
	line, err := r.out.ReadBytes('\n')
	require.NoError(r.t, err)
	var reply struct {
		Error string `json:"error"`
	}
	require.NoError(r.t, json.Unmarshal(line, &reply))
	require.Empty(r.t, reply.Error)
	var all [][]float32
	for _, name := range outputs {
		data, err := os.ReadFile(files[name])
		require.NoError(r.t, err)
		v := make([]float32, len(data)/4)
		for i := range v {
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
		all = append(all, v)
	}
	return all
}

func raw(v []float32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// onCPU computes a graph with the CPU backend.
func onCPU(t *testing.T, g *graph.Graph, in ...[]float32) [][]float32 {
	t.Helper()
	b, err := cpu.New(cpu.Options{})
	require.NoError(t, err)
	defer b.Close()
	p, err := b.Compile(context.Background(), g)
	require.NoError(t, err)
	defer p.Close()
	out := make([][]float32, len(g.Outputs))
	for i, o := range g.Outputs {
		out[i] = make([]float32, o.Shape.Elems())
	}
	require.NoError(t, p.Run(context.Background(), in, out, backend.RunOptions{}))
	return out
}

func random(seed uint64, n int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 3))
	x := make([]float32, n)
	for i := range x {
		x[i] = rng.Float32()
	}
	return x
}

func networkWith(t *testing.T, arch, args string) (models.Network, weights.Source) {
	t.Helper()
	net, err := models.New(arch, json.RawMessage(args))
	require.NoError(t, err)
	c := &models.Config{Experts: []models.ExpertConfig{{Architecture: arch, Args: json.RawMessage(args)}}}
	src, err := models.RandomWeights(c, 7)
	require.NoError(t, err)
	return net, src
}

func closest(t *testing.T, want, got []float32, bound float64, msg string) {
	t.Helper()
	require.Len(t, got, len(want), msg)
	worst, peak := 0.0, 0.0
	for i := range want {
		worst = max(worst, math.Abs(float64(want[i]-got[i])))
		peak = max(peak, math.Abs(float64(want[i])))
	}
	require.LessOrEqual(t, worst, bound*max(1, peak), "%s: peak %g", msg, peak)
}

// variants are networks beside the small ones of every architecture.
var variants = []struct{ arch, args string }{
	{models.RestormerName, `{"dim":8,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,1,2,2],"LayerNorm_type":"BiasFree","bias":true,"inp_channels":1,"out_channels":1}`},
	{models.RestormerName, `{"dim":8,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,1,2,2],"inp_channels":6,"dual_pixel_task":true}`},
	{models.NAFNetLocalName, `{"width":8,"enc_blk_nums":[1,1],"middle_blk_num":1,"dec_blk_nums":[1,1],"train_size":[1,3,32,40]}`},
	{models.BaselineLocalName, `{"width":8,"enc_blk_nums":[1,1],"middle_blk_num":1,"dec_blk_nums":[1,1],"train_size":[1,3,32,40]}`},
	{models.DehazeFormerName, `{"embed_dims":[8,16,16,16,8],"depths":[2,2,2,1,1],"num_heads":[1,2,2,1,1],"conv_type":["DWConv","DWConv","DWConv","DWConv","DWConv"],"attn_ratio":[0.5,0.5,1,0,0]}`},
}

// sizes are number, height and width of pictures, one of them in everyday tests.
func sizes() [][3]int {
	if os.Getenv("UNIRESTORER_TEST_LONG") == "" {
		return [][3]int{{2, 45, 59}}
	}
	return [][3]int{{1, 48, 64}, {2, 61, 75}, {1, 101, 37}, {1, 33, 203}}
}

// halve rounds the weights of a graph's products to fp16, merged and folded ones
// as they are.
func halve(g *graph.Graph) {
	done := map[*graph.Param]bool{}
	for _, n := range g.Nodes {
		for _, p := range n.Op.Params() {
			if done[p] || !onnx.IsProduct(p) {
				continue
			}
			done[p] = true
			whole := *p
			*p = *graph.NewParam(p.Name, p.Dims, nil, func(dst []float32) error {
				v, err := whole.Values()
				for i := range v {
					dst[i] = float16.Fromfloat32(v[i]).Float32()
				}
				return err
			})
		}
	}
}

func TestONNXRuntimeAgreesOnEveryArchitectureAndSize(t *testing.T) {
	r := onnxRuntime(t)
	all := variants
	for _, a := range models.Architectures() {
		if a.Small != "" {
			all = append(all, struct{ arch, args string }{a.Name, a.Small})
		}
	}
	for _, c := range all {
		net, src := networkWith(t, c.arch, c.args)
		in, _ := models.Channels(net)
		for _, half := range []bool{false, true} {
			var model bytes.Buffer
			require.NoError(t, onnx.WriteNetwork(&model, net, src, onnx.Options{Half: half}), c.arch)
			file := r.load(model.Bytes())
			for _, size := range sizes() {
				n, h, w := size[0], size[1], size[2]
				same := net
				if net.CheckSide(h) != nil || net.CheckSide(w) != nil {
					var err error
					same, err = models.PadToGrid(net)
					require.NoError(t, err)
				}
				g, err := same.Build(src, n, h, w, models.Options{Layout: graph.NCHW, OwnPorts: true})
				require.NoError(t, err)
				if half {
					halve(g)
				}
				x := random(1, n*in*h*w)
				want := onCPU(t, g, x)[0]
				got := r.run(file, x, []int{n, in, h, w}, "restored")[0]
				closest(t, want, got, 1e-4, fmt.Sprint(c.arch, c.args, size, " halves ", half))
			}
		}
	}
}

func TestHalfWeightsTakeLessThanThreeQuarters(t *testing.T) {
	net, src := networkWith(t, models.RestormerName, variants[0].args)
	var whole, half bytes.Buffer
	require.NoError(t, onnx.WriteNetwork(&whole, net, src, onnx.Options{}))
	require.NoError(t, onnx.WriteNetwork(&half, net, src, onnx.Options{Half: true}))
	require.Less(t, half.Len(), whole.Len()*3/4)
}

func TestONNXRuntimeAgreesOnTheEstimator(t *testing.T) {
	r := onnxRuntime(t)
	d, err := models.NewDACLIP(json.RawMessage(`{"embed_dim":16,"vision_cfg":{"image_size":32,"layers":2,"width":16,"head_width":8,"patch_size":8}}`))
	require.NoError(t, err)
	router, err := models.NewRouter(models.Router{Width: 16, Leaves: 5, Levels: 3})
	require.NoError(t, err)
	src := weights.NewMap()
	for i, stored := range []func() ([]models.Spec, error){d.Stored, router.Stored} {
		specs, err := stored()
		require.NoError(t, err)
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		for _, s := range specs {
			v := make([]float32, s.Elems())
			for k := range v {
				v[k] = rng.Float32() - 0.3
				if strings.HasSuffix(s.Name, "running_var") {
					v[k] += 1
				}
			}
			x, err := weights.FromFloat32(s.Name, s.Dims, v)
			require.NoError(t, err)
			src.Set(x)
		}
	}
	small := func() *graph.Graph {
		g, err := models.BuildEstimator(d, router, src, src, 1, models.Options{Layout: graph.NCHW})
		require.NoError(t, err)
		return g
	}
	m, err := experts.OpenModelFS(nano.Name, nano.Files())
	require.NoError(t, err)
	defer m.Close()
	builtIn := func() *graph.Graph {
		g, err := m.Config.BuildEstimator(m.Source, 1, models.Options{Layout: graph.NCHW})
		require.NoError(t, err)
		return g
	}
	for _, build := range []func() *graph.Graph{small, builtIn} {
		for _, half := range []bool{false, true} {
			g := build()
			var model bytes.Buffer
			require.NoError(t, onnx.Write(&model, g, false, onnx.Options{Half: half}))
			if half {
				halve(g)
			}
			in := g.Inputs[0].Shape
			x := random(4, in.Elems())
			want := onCPU(t, g, x)
			var names []string
			for _, o := range g.Outputs {
				names = append(names, o.Name)
			}
			got := r.run(r.load(model.Bytes()), x, []int{1, in.C, in.H, in.W}, names...)
			for i := range names {
				closest(t, want[i], got[i], 1e-4, fmt.Sprint(names[i], " halves ", half))
			}
		}
	}
}

// What is written can be read as protobuf, whatever runs it.
func TestModelsAreWellFormed(t *testing.T) {
	for _, c := range variants {
		net, src := networkWith(t, c.arch, c.args)
		var model bytes.Buffer
		require.NoError(t, onnx.WriteNetwork(&model, net, src, onnx.Options{Metadata: map[string]string{"architecture": c.arch}}))
		fields := 0
		for b := model.Bytes(); len(b) > 0; fields++ {
			_, _, n := protowire.ConsumeField(b)
			require.Positive(t, n)
			b = b[n:]
		}
		require.GreaterOrEqual(t, fields, 6)
	}
}

func TestWhatHasNoONNXFormIsRefusedByName(t *testing.T) {
	b := graph.NewBuilder("routed", nil)
	x := b.Input("image", graph.Shape{N: 1, H: 1, W: 1, C: 4}, graph.NHWC)
	y := b.Route("choice", graph.Route{Leaves: x, Levels: x, Override: x, Experts: [][]int{{0}, {0}, {0}}})
	b.Output("decision", y, graph.NHWC)
	g, err := b.Build()
	require.NoError(t, err)
	require.ErrorContains(t, onnx.Write(io.Discard, g, false, onnx.Options{}), `node "choice": operation route has no form`)
}
