package restore

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu"
	"unirestorer/runtime/device"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/experts/expertstest"
	"unirestorer/runtime/gpu"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/ledger"
	"unirestorer/runtime/ptxsim"
)

// alone is the bound that one picture needs.
func alone(t *testing.T, r *Restorer, img *imaging.Image, opt Options) int64 {
	t.Helper()
	n, err := r.needs(pictureOf(img, 0), opt)
	require.NoError(t, err)
	total := n.Bytes
	for _, c := range n.Claims {
		total += c.Bytes
	}
	return total
}

func TestConcurrentCallsWaitForEachOther(t *testing.T) {
	m, b := tinyModel(t), expertstest.CPU(t)
	free := restorer(t, m, b, Config{})
	const n = 8
	var pictures, want [n]*imaging.Image
	for i := range n {
		pictures[i] = noise(t, 64+8*(i%3), 48, 3, 8)
		var err error
		want[i], _, err = free.Restore(t.Context(), pictures[i], Options{})
		require.NoError(t, err)
	}
	bound := int64(0)
	for _, img := range pictures {
		bound = max(bound, alone(t, free, img, Options{})*11/10)
	}
	r := restorer(t, m, b, Config{Memory: bound, Lazy: true})
	for range 3 {
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				got, rep, err := r.Restore(context.Background(), pictures[i], Options{})
				if err != nil || !bytes.Equal(got.Pix, want[i].Pix) || rep.TilesX*rep.TilesY != 1 {
					t.Errorf("picture %d: %v, %d×%d tiles", i, err, rep.TilesX, rep.TilesY)
				}
			})
		}
		wg.Wait()
	}
	u := r.host.Usage()
	require.LessOrEqual(t, u.Peak, bound)
	require.Zero(t, u.Reserved)
	require.Zero(t, u.Waiting)
}

// TestTilesThatShareStatisticsRunInWhatTheyReserve gives a picture not a byte more than it asks for.
func TestTilesThatShareStatisticsRunInWhatTheyReserve(t *testing.T) {
	m, b := nanoModel(t), expertstest.CPU(t)
	free := restorer(t, m, b, Config{Lazy: true})
	img := photo(t, "half dark", 200, 136)
	for _, e := range []int{5, 12} {
		opt := Options{Override: only(e), NoGuard: true, Tile: 96}
		want, rep, err := free.Restore(t.Context(), img, opt)
		require.NoError(t, err)
		require.Greater(t, rep.Passes, 1.0)
		bound := alone(t, free, img, opt)
		r := restorer(t, m, expertstest.CPU(t), Config{Lazy: true, Memory: bound})
		got, _, err := r.Restore(t.Context(), img, opt)
		require.NoError(t, err)
		require.Equal(t, want.Pix, got.Pix)
		require.LessOrEqual(t, r.host.Usage().Peak, bound)
	}
}

// TestWhatEarlierPicturesLeaveIsNoMoreThanAPictureClaims follows a picture with a large arena by one with large tiles, and that
// one by the first again, where both at once have no room.
func TestWhatEarlierPicturesLeaveIsNoMoreThanAPictureClaims(t *testing.T) {
	m := oneExpert(t, models.NAFNetName, `{"width":8}`)
	free := restorer(t, m, expertstest.CPU(t), Config{Lazy: true})
	pictures := []*imaging.Image{noise(t, 200, 136, 4, 16), noise(t, 6000, 40, 1, 8)}
	opts := []Options{{Override: only(0), Tile: TileOff}, {Override: only(0), Tile: 32}}
	bound := int64(0)
	for i, img := range pictures {
		bound = max(bound, alone(t, free, img, opts[i]))
	}
	r := restorer(t, m, expertstest.CPU(t), Config{Lazy: true, Memory: bound})
	for _, i := range []int{0, 1, 0, 1} {
		_, _, err := r.Restore(t.Context(), pictures[i], opts[i])
		require.NoError(t, err, i)
	}
	require.LessOrEqual(t, r.host.Usage().Peak, bound)
}

func TestAnyNumberOfSizesStaysWithinTheBound(t *testing.T) {
	m := oneExpert(t, models.NAFNetName, `{"width":2}`)
	const bound = 6 << 20
	before := ledger.Mapped()
	r := restorer(t, m, expertstest.CPU(t), Config{Lazy: true, Memory: bound})
	for i := range 500 {
		_, _, err := r.Restore(t.Context(), noise(t, 20+i%25*3, 16+i/25*4, 3, 8), Options{Override: only(0)})
		require.NoError(t, err)
	}
	require.LessOrEqual(t, r.host.Usage().Peak, int64(bound))
	require.LessOrEqual(t, ledger.Mapped()-before, int64(bound))
}

// hugePNG is a file whose header asks for far more than it holds.
func hugePNG(w, h uint32) []byte {
	chunk := func(kind string, data []byte) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
		b = append(append(b, kind...), data...)
		return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
	}
	head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, w), h)
	file := append([]byte("\x89PNG\r\n\x1a\n"), chunk("IHDR", append(head, 8, 2, 0, 0, 0))...)
	return append(file, chunk("IDAT", make([]byte, 800_000))...)
}

func TestWhatCanNeverFitIsRefusedBeforeItIsDecoded(t *testing.T) {
	m := oneExpert(t, models.NAFNetName, `{"width":2}`)
	r := restorer(t, m, expertstest.CPU(t), Config{Lazy: true, Memory: 300 << 20})
	path := filepath.Join(t.TempDir(), "huge.png")
	require.NoError(t, os.WriteFile(path, hugePNG(14000, 14000), 0o666))
	var before, after runtime.MemStats
	for name, in := range map[string]string{"file": path, "stream": Stream} {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		runtime.ReadMemStats(&before)
		_, err = r.File(t.Context(), Job{In: in, Out: filepath.Join(t.TempDir(), "out.png")}, FileOptions{Options: Options{Override: only(0)}}, bytes.NewReader(data), nil)
		runtime.ReadMemStats(&after)
		require.ErrorIs(t, err, experts.ErrBudget, name)
		require.ErrorContains(t, err, "300 MiB are allowed", name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20), "%s: nothing was decoded", name)
		_, err = r.RouteFile(t.Context(), in, FileOptions{}, bytes.NewReader(data))
		require.Error(t, err, name)
	}
}

// simulated is a backend on a simulated card.
func simulated(t testing.TB, memory int64) (*gpu.Backend, *ptxsim.Device) {
	t.Helper()
	dev, err := ptxsim.New(ptxsim.Options{Memory: memory, NoCheck: true})
	require.NoError(t, err)
	b, err := gpu.New(dev, gpu.Options{NoGraphs: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b, dev
}

func TestACardWhoseMemoryShrinksRestoresTheSame(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates 24 pictures")
	}
	m := tinyModel(t)
	large, _ := simulated(t, 1<<30)
	free := restorer(t, m, large, Config{})
	var pictures, want [12]*imaging.Image
	var most int64
	for i := range pictures {
		pictures[i] = noise(t, 32+8*(i%3), 32, 3, 8)
		var err error
		want[i], _, err = free.Restore(t.Context(), pictures[i], Options{Override: only(i % len(m.Config.Experts))})
		require.NoError(t, err)
		for e := range m.Config.Experts {
			mem, err := free.memory(e, pictures[i].H, pictures[i].W, experts.Variant{})
			require.NoError(t, err)
			most = max(most, mem.Total())
		}
	}
	most = max(most, free.routing.Total()) * 5 / 4
	small, dev := simulated(t, 3*most)
	r := restorer(t, m, small, Config{})
	for i, img := range pictures {
		dev.Occupy(int64(i) * most * 3 / 2 / int64(len(pictures)))
		got, rep, err := r.Restore(t.Context(), img, Options{Override: only(i % len(m.Config.Experts))})
		require.NoError(t, err, "picture %d", i)
		require.Equal(t, "sim", rep.Device)
		require.Equal(t, want[i].Pix, got.Pix)
		free, _, _, err := small.DeviceMemory()
		require.NoError(t, err)
		require.GreaterOrEqual(t, free, int64(0))
	}
}

// stingy is a device that gives less memory than it says it has.
type stingy struct {
	device.Device
	mu    sync.Mutex
	limit int64
	held  map[device.Ptr]int64
}

func (s *stingy) Alloc(size int64) (device.Buffer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := size
	for _, n := range s.held {
		total += n
	}
	if total > s.limit {
		return device.Buffer{}, device.ErrOutOfMemory
	}
	b, err := s.Device.Alloc(size)
	s.held[b.Ptr] = size
	return b, err
}

func (s *stingy) Free(b device.Buffer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, b.Ptr)
	return s.Device.Free(b)
}

func TestAnAllocationThatFailsAllTheSameTakesLess(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates a device")
	}
	m := oneExpert(t, models.NAFNetName, `{"width":2}`)
	sim, err := ptxsim.New(ptxsim.Options{Memory: 1 << 30, NoCheck: true})
	require.NoError(t, err)
	dev := &stingy{Device: sim, limit: math.MaxInt64, held: map[device.Ptr]int64{}}
	b, err := gpu.New(dev, gpu.Options{NoGraphs: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	opened := 0
	fall := func(context.Context) (backend.Backend, error) {
		opened++
		return cpu.New(cpu.Options{})
	}
	r := restorer(t, m, b, Config{Lazy: true})
	withFallback := restorer(t, m, b, Config{Lazy: true, Fallback: fall})
	img := noise(t, 130, 100, 3, 8)
	opt := Options{Override: only(0)}
	want, rep, err := r.Restore(t.Context(), img, opt)
	require.NoError(t, err)
	require.Equal(t, 1, rep.TilesX*rep.TilesY)
	require.Empty(t, rep.Notes)

	require.True(t, r.lane.card.Ledger().Reclaim(math.MaxInt64))
	dev.limit = rep.Memory.Weights + rep.Memory.Arena*3/4 // tiles of 96 pixels fit
	got, rep, err := r.Restore(t.Context(), img, opt)
	require.NoError(t, err)
	require.Greater(t, rep.TilesX*rep.TilesY, 1)
	require.Contains(t, rep.Notes, "the device had less memory than it said, smaller tiles were taken")
	require.Equal(t, "sim", rep.Device)
	require.Equal(t, [2]int{want.W, want.H}, [2]int{got.W, got.H})

	require.True(t, r.lane.card.Ledger().Reclaim(math.MaxInt64))
	dev.limit = 1000
	_, _, err = r.Restore(t.Context(), img, opt)
	require.ErrorIs(t, err, backend.ErrOutOfMemory)
	require.Zero(t, opened)
	_, rep, err = withFallback.Restore(t.Context(), img, opt)
	require.NoError(t, err)
	require.Equal(t, 1, opened)
	require.Equal(t, "cpu", rep.Device)
	require.Contains(t, rep.Notes, "sim has not the memory, so cpu restored it")

	dev.limit = math.MaxInt64
	again, rep, err := r.Restore(t.Context(), img, opt)
	require.NoError(t, err)
	require.Equal(t, want.Pix, again.Pix)
	require.Equal(t, "sim", rep.Device)
}
