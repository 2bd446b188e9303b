package restore

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/queue"
)

// roomy is the CPU as a device on which batches pay.
type roomy struct {
	backend.Backend
	run atomic.Pointer[func(ctx context.Context, images int) error] // before each run
}

func (b *roomy) Rounds(*graph.Graph) (float64, error) { return 1, nil }

func (b *roomy) Compile(ctx context.Context, g *graph.Graph) (backend.Program, error) {
	p, err := b.Backend.Compile(ctx, g)
	return &roomyProgram{p, b}, err
}

type roomyProgram struct {
	backend.Program
	b *roomy
}

func (p *roomyProgram) Run(ctx context.Context, in, out [][]float32, o backend.RunOptions) error {
	if f := p.b.run.Load(); f != nil {
		if err := (*f)(ctx, p.Graph().Inputs[0].Shape.N); err != nil {
			return err
		}
	}
	return p.Program.Run(ctx, in, out, o)
}

func newRoomy(t testing.TB) *roomy {
	b, err := cpu.New(cpu.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return &roomy{Backend: b}
}

// answer is what became of a picture.
type answer struct {
	out  *imaging.Image
	rep  Report
	err  error
	done float64 // as progress told
}

// atOnce has pictures wait for a device that is taken until all of them do.
func atOnce(t testing.TB, r *Restorer, ctxs []context.Context, pictures []*imaging.Image) []answer {
	turn, err := r.lane.enter(t.Context(), "another")
	require.NoError(t, err)
	answers := make([]answer, len(pictures))
	var all sync.WaitGroup
	for i, img := range pictures {
		all.Go(func() {
			a := &answers[i]
			a.out, a.rep, a.err = r.Restore(ctxs[i], img, Options{Override: only(0), Progress: func(done float64) { a.done = done }})
		})
		require.Eventually(t, func() bool { _, n := r.lane.turns.Len(); return n == i+1 }, 10*time.Second, time.Millisecond)
	}
	r.lane.leave(turn)
	all.Wait()
	return answers
}

func contexts(t testing.TB, n int) []context.Context {
	all := make([]context.Context, n)
	for i := range all {
		all[i] = t.Context()
	}
	return all
}

func TestPicturesThatWaitRunTogether(t *testing.T) {
	m := tinyModel(t)
	b := newRoomy(t)
	r := restorer(t, m, b, Config{})
	alone := restorer(t, m, b, Config{Batch: 1})
	var pictures []*imaging.Image
	for i := range 7 {
		w := 40
		if i == 2 {
			w = 24
		}
		img := noise(t, w, 32, 3, 8)
		img.Pix[i] ^= 0xff
		pictures = append(pictures, img)
	}
	answers := atOnce(t, r, contexts(t, 7), pictures)
	sizes := map[int]int{}
	for i, a := range answers {
		require.NoError(t, a.err)
		require.Equal(t, 1.0, a.done, "picture %d", i)
		want, rep, err := alone.Restore(t.Context(), pictures[i], Options{Override: only(0)})
		require.NoError(t, err)
		require.Zero(t, rep.Batch)
		require.Equal(t, want.Pix, a.out.Pix, "picture %d", i)
		require.Positive(t, a.rep.Times.Run)
		sizes[a.rep.Batch]++
	}
	require.Equal(t, map[int]int{4: 4, 2: 2, 0: 1}, sizes)
	require.Empty(t, r.together.waiting)
}

func TestLessUrgentPicturesAreNotTakenAlong(t *testing.T) {
	r := restorer(t, tinyModel(t), newRoomy(t), Config{})
	ctxs := contexts(t, 4)
	for i := range 2 {
		ctxs[i] = queue.With(ctxs[i], queue.Ask{Priority: 1})
	}
	img := noise(t, 40, 32, 3, 8)
	for _, a := range atOnce(t, r, ctxs, []*imaging.Image{img, img, img, img}) {
		require.NoError(t, a.err)
		require.Equal(t, 2, a.rep.Batch)
	}
}

func TestABatchThatFailsIsRestoredOneByOne(t *testing.T) {
	b := newRoomy(t)
	r := restorer(t, tinyModel(t), b, Config{})
	fault := errors.New("a fault")
	var singles atomic.Int64
	fail := func(_ context.Context, images int) error {
		if images > 1 || singles.Add(1) == 2 {
			return fault
		}
		return nil
	}
	b.run.Store(&fail)
	img := noise(t, 40, 32, 3, 8)
	failed := 0
	for _, a := range atOnce(t, r, contexts(t, 4), []*imaging.Image{img, img, img, img}) {
		require.Zero(t, a.rep.Batch)
		if a.err != nil {
			require.ErrorIs(t, a.err, fault)
			failed++
		}
	}
	require.Equal(t, 1, failed, "each has its own error")
}

func TestWhoGivesUpLeavesTheOthers(t *testing.T) {
	b := newRoomy(t)
	r := restorer(t, tinyModel(t), b, Config{})
	ctxs := contexts(t, 4)
	var cancel [4]context.CancelFunc
	for i := range ctxs {
		ctxs[i], cancel[i] = context.WithCancel(ctxs[i])
		defer cancel[i]()
	}
	img := noise(t, 40, 32, 3, 8)
	run := func(_ context.Context, images int) error {
		if images == 4 {
			cancel[0]() // who leads, and one who was taken along
			cancel[2]()
		}
		return nil
	}
	b.run.Store(&run)
	for i, a := range atOnce(t, r, ctxs, []*imaging.Image{img, img, img, img}) {
		if i%2 == 0 && a.err != nil {
			require.ErrorIs(t, a.err, context.Canceled)
			continue
		}
		require.NoError(t, a.err)
		require.Equal(t, 4, a.rep.Batch)
	}

	// When all have given up the run ends.
	ended := make(chan struct{})
	wait := func(ctx context.Context, images int) error {
		if images > 1 {
			cancel[1]()
			cancel[3]()
			<-ctx.Done()
			close(ended)
			return ctx.Err()
		}
		return nil
	}
	b.run.Store(&wait)
	for _, a := range atOnce(t, r, []context.Context{ctxs[1], ctxs[3]}, []*imaging.Image{img, img}) {
		require.ErrorIs(t, a.err, context.Canceled)
	}
	<-ended
	r.together.running.Wait()
	n, waiting := r.lane.turns.Len()
	require.Zero(t, n+waiting)
}

func TestBatchesAndGivingUpAtRandom(t *testing.T) {
	b := newRoomy(t)
	r := restorer(t, tinyModel(t), b, Config{Memory: 256 << 20})
	img := noise(t, 32, 32, 3, 8)
	want, _, err := r.Restore(t.Context(), img, Options{Override: only(0)})
	require.NoError(t, err)
	var together atomic.Int64
	turn, err := r.lane.enter(t.Context(), "another") // until those without a deadline wait
	require.NoError(t, err)
	var all sync.WaitGroup
	for g := range 12 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 9))
			for range 8 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(60))*time.Millisecond)
				if g < 4 {
					ctx = t.Context()
				}
				out, rep, err := r.Restore(ctx, img, Options{Override: only(0)})
				cancel()
				switch {
				case err == nil:
					if rep.Batch > 1 {
						together.Add(1)
					}
					if string(out.Pix) != string(want.Pix) {
						t.Error("another result")
					}
				case g < 4 || !errors.Is(err, context.DeadlineExceeded):
					t.Error(err)
				}
			}
		})
	}
	require.Eventually(t, func() bool { _, n := r.lane.turns.Len(); return n >= 4 }, 10*time.Second, time.Millisecond)
	r.lane.leave(turn)
	all.Wait()
	r.together.running.Wait()
	require.Positive(t, together.Load())
	n, waiting := r.lane.turns.Len()
	require.Zero(t, n+waiting)
	require.Empty(t, r.together.waiting)
}

func TestBatchesPayWhereASinglePictureLeavesADeviceIdle(t *testing.T) {
	b, _ := simulated(t, 1<<30)
	r := restorer(t, tinyModel(t), b, Config{Lazy: true})
	require.True(t, r.worth(batchKey{0, 32, 32}, 2))
	require.False(t, r.worth(batchKey{0, 2048, 2048}, 2))
	c, err := cpu.New(cpu.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	require.False(t, restorer(t, tinyModel(t), c, Config{Lazy: true}).worth(batchKey{0, 32, 32}, 2))
}
