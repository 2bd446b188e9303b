package restore

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/imaging"
	"unirestorer/runtime/router"
)

// routedAtOnce has pictures wait for a device that is taken until all of them do, and gives their decisions.
func routedAtOnce(t testing.TB, r *Restorer, ctxs []context.Context, pictures []*imaging.Image, o []router.Override) ([]router.Decision, []error) {
	turn, err := r.lane.enter(t.Context(), "another")
	require.NoError(t, err)
	decisions, errs := make([]router.Decision, len(pictures)), make([]error, len(pictures))
	var all sync.WaitGroup
	for i, img := range pictures {
		all.Go(func() { decisions[i], errs[i] = r.Route(ctxs[i], img, o[i]) })
		require.Eventually(t, func() bool { _, n := r.lane.turns.Len(); return n == i+1 }, 10*time.Second, time.Millisecond)
	}
	r.lane.leave(turn)
	all.Wait()
	return decisions, errs
}

func questions(t testing.TB, n int) (pictures []*imaging.Image, overrides []router.Override) {
	for i := range n {
		img := noise(t, 40+8*i, 32, 3, 8)
		img.Pix[i] ^= 0xff
		pictures = append(pictures, img)
		var o router.Override
		if i%2 == 1 {
			o.Leaves = []int{0}
		}
		overrides = append(overrides, o)
	}
	return pictures, overrides
}

func TestPicturesThatWaitAreEstimatedTogether(t *testing.T) {
	m := tinyModel(t)
	b := newRoomy(t)
	r := restorer(t, m, b, Config{})
	alone := restorer(t, m, b, Config{Batch: 1})
	var sizes []int
	run := func(_ context.Context, images int) error {
		sizes = append(sizes, images) // runs take turns
		return nil
	}
	pictures, overrides := questions(t, 7)
	b.run.Store(&run)
	got, errs := routedAtOnce(t, r, contexts(t, 7), pictures, overrides)
	require.Equal(t, []int{4, 2, 1}, sizes)
	for i, img := range pictures {
		require.NoError(t, errs[i])
		want, err := alone.Route(t.Context(), img, overrides[i])
		require.NoError(t, err)
		require.Equal(t, want, got[i], "picture %d", i)
	}
	require.Empty(t, r.questions.waiting)
}

func TestEstimatesThatFailTogetherAreMadeOneByOne(t *testing.T) {
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
	pictures, overrides := questions(t, 4)
	_, errs := routedAtOnce(t, r, contexts(t, 4), pictures, overrides)
	failed := 0
	for _, err := range errs {
		if err != nil {
			require.ErrorIs(t, err, fault)
			failed++
		}
	}
	require.Equal(t, 1, failed, "each has its own error")
}

func TestWhoGivesUpAnEstimateLeavesTheOthers(t *testing.T) {
	b := newRoomy(t)
	r := restorer(t, tinyModel(t), b, Config{})
	ctxs := contexts(t, 4)
	var cancel [4]context.CancelFunc
	for i := range ctxs {
		ctxs[i], cancel[i] = context.WithCancel(ctxs[i])
		defer cancel[i]()
	}
	run := func(_ context.Context, images int) error {
		if images == 4 {
			cancel[0]() // who leads, and one who was taken along
			cancel[2]()
		}
		return nil
	}
	b.run.Store(&run)
	pictures, overrides := questions(t, 4)
	decisions, errs := routedAtOnce(t, r, ctxs, pictures, overrides)
	for i, err := range errs {
		if i%2 == 0 && err != nil {
			require.ErrorIs(t, err, context.Canceled)
			continue
		}
		require.NoError(t, err)
		require.NotEmpty(t, decisions[i].LeafProbs)
	}
	n, waiting := r.lane.turns.Len()
	require.Zero(t, n+waiting)
	require.Empty(t, r.questions.waiting)
}

func TestASimulatedCardEstimatesTogether(t *testing.T) {
	b, _ := simulated(t, 1<<30)
	m := tinyModel(t)
	r := restorer(t, m, b, Config{Lazy: true})
	require.True(t, r.pays(2))
	pictures, overrides := questions(t, 2)
	got, errs := routedAtOnce(t, r, contexts(t, 2), pictures, overrides)
	require.Contains(t, r.estimators, 2)
	for i, img := range pictures {
		require.NoError(t, errs[i])
		want, err := r.Route(t.Context(), img, overrides[i])
		require.NoError(t, err)
		require.Equal(t, want.Expert, got[i].Expert)
		require.InDeltaSlice(t, want.LeafProbs, got[i].LeafProbs, 1e-3)
	}
	r.dropEstimator()
	require.Zero(t, r.lane.weights.Charged())
}

func TestEstimatesThatHaveNoRoomTogetherAreNotTriedAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates sixteen estimates")
	}
	m := tinyModel(t)
	roomy, _ := simulated(t, 1<<30)
	whole := restorer(t, m, roomy, Config{Lazy: true})
	pictures, overrides := questions(t, 4)
	want, errs := routedAtOnce(t, whole, contexts(t, 4), pictures, overrides)
	require.NoError(t, errors.Join(errs...))
	require.Contains(t, whole.estimators, 4)
	alone, together := whole.estimator.Memory(), whole.estimators[4].Memory()
	require.Greater(t, paged(together.Arena), paged(alone.Arena))

	// One picture has room, and four have not.
	room := alone.Weights + (paged(alone.Arena)+paged(together.Arena))/2
	narrow, _ := simulated(t, room*16/15)
	r := restorer(t, m, narrow, Config{Lazy: true})
	require.True(t, r.pays(4))
	for range 2 {
		got, errs := routedAtOnce(t, r, contexts(t, 4), pictures, overrides)
		require.NoError(t, errors.Join(errs...))
		for i := range got {
			require.Equal(t, want[i].Expert, got[i].Expert, "picture %d", i)
		}
		require.False(t, r.pays(4), "is remembered")
		require.NotContains(t, r.estimators, 4, "holds nothing for what does not run")
	}
	r.dropEstimator()
	require.Zero(t, r.lane.weights.Charged())
}
