package restore

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu"
	"unirestorer/runtime/experts/expertstest"
	"unirestorer/runtime/gpu"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/ledger"
	"unirestorer/runtime/router"
)

// Another process has most of a card's memory: a picture waits until that has less, as long as patience lasts.
func TestPictureWaitsForMemoryThatOtherProcessesHave(t *testing.T) {
	m := oneExpert(t, models.NAFNetName, `{"width":2}`)
	const total = 8 << 20
	b, dev := simulated(t, total)
	r := restorer(t, m, b, Config{Lazy: true})
	img := noise(t, 16, 16, 3, 8)
	want, _, err := r.Restore(t.Context(), img, Options{Override: only(0)})
	require.NoError(t, err)

	r.lane.card.Ledger().Reclaim(1 << 62)
	held := r.lane.card.Ledger().Usage().Accounts
	dev.Occupy(total - held)
	defer dev.Occupy(0)
	done := make(chan *imaging.Image, 1)
	go func() {
		got, _, err := r.Restore(context.Background(), img, Options{Override: only(0)})
		if err != nil {
			t.Error(err)
		}
		done <- got
	}()
	select {
	case <-done:
		t.Fatal("there was no memory for it")
	case <-time.After(50 * time.Millisecond):
	}
	dev.Occupy(0)
	require.Equal(t, want.Pix, (<-done).Pix)

	dev.Occupy(total - held)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err = r.Restore(ctx, img, Options{Override: only(0)})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, ErrCrowded)
	r.lane.wait = 0
	_, _, err = r.Restore(t.Context(), img, Options{Override: only(0)})
	require.ErrorIs(t, err, ErrCrowded)
	require.ErrorIs(t, err, ledger.ErrTooLarge)
	require.ErrorContains(t, err, "other processes have")

	// What could never fit is refused at once.
	r.lane.wait = time.Hour
	r.lane.bound = 1000
	_, _, err = r.Restore(t.Context(), img, Options{Override: only(0)})
	require.ErrorIs(t, err, ledger.ErrTooLarge)
	require.NotErrorIs(t, err, ErrCrowded)
}

// crowdedCard is a card that knows who else has its memory.
type crowdedCard struct{ *gpu.Backend }

func (crowdedCard) Holders() []string { return []string{"42 (python3) 70 GiB", "43"} }

// Who has the memory is said while a picture waits and when it has waited in vain; with a fallback it does not wait.
func TestWhoHasTheMemoryIsSaid(t *testing.T) {
	m := tinyModel(t)
	const total = 8 << 20
	b, dev := simulated(t, total)
	dev.Occupy(total)
	r := restorer(t, m, crowdedCard{b}, Config{DeviceWait: 2500 * time.Millisecond}) // without memory for its estimator
	img := noise(t, 16, 16, 3, 8)
	var said []string
	_, _, err := r.Restore(t.Context(), img, Options{Waits: func(why string) { said = append(said, why) }})
	require.ErrorIs(t, err, ErrCrowded)
	require.ErrorContains(t, err, "other processes have 8.0 MiB of the memory of sim (42 (python3) 70 GiB, 43): ")
	require.NotEmpty(t, said)
	require.Contains(t, said[0], "42 (python3) 70 GiB")
	r.lane.wait = 0
	_, err = r.Route(t.Context(), img, router.Override{})
	require.ErrorIs(t, err, ErrCrowded)

	want, _, err := restorer(t, m, expertstest.CPU(t), Config{}).Restore(t.Context(), img, Options{})
	require.NoError(t, err)
	r = restorer(t, m, crowdedCard{b}, Config{DeviceWait: time.Hour, Fallback: func(context.Context) (backend.Backend, error) { return cpu.New(cpu.Options{}) }})
	got, rep, err := r.Restore(t.Context(), img, Options{})
	require.NoError(t, err)
	require.Equal(t, want.Pix, got.Pix)
	require.Equal(t, "cpu", rep.Device)
}
