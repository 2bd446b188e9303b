package restore

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/ledger"
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
	defer func(d time.Duration) { patience = d }(patience)
	patience = 0
	_, _, err = r.Restore(t.Context(), img, Options{Override: only(0)})
	require.ErrorIs(t, err, ledger.ErrTooLarge)
	require.ErrorContains(t, err, "other processes have")

	// What could never fit is refused at once.
	patience = time.Hour
	r.lane.bound = 1000
	_, _, err = r.Restore(t.Context(), img, Options{Override: only(0)})
	require.ErrorIs(t, err, ledger.ErrTooLarge)
}
