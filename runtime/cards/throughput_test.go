package cards

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// workload is pictures whose steps are known, in milliseconds: decoding and encoding take one core of the host each, the
// network a card.
type workload struct {
	host         [2]float64 // decode, encode
	card         []float64  // of the networks that pictures go to, at random
	cores, lanes int        // of the host, and pictures that a card has at a time
}

// happening is the end of a picture's step.
type happening struct {
	at            float64
	picture, step int
}

type calendar []happening

func (c calendar) Len() int           { return len(c) }
func (c calendar) Less(i, j int) bool { return c[i].at < c[j].at }
func (c calendar) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *calendar) Push(x any)        { *c = append(*c, x.(happening)) }
func (c *calendar) Pop() any {
	last := len(*c) - 1
	x := (*c)[last]
	*c = (*c)[:last]
	return x
}

// play runs pictures through n cards as a pool would, event by event, and returns pictures a second and the share of the time
// that cards and host are busy.
func play(w workload, n, pictures int) (rate, cards, host float64) {
	random := rand.New(rand.NewPCG(1, 2))
	took := make([]float64, pictures)
	for i := range took {
		took[i] = w.card[random.IntN(len(w.card))]
	}
	const decode, run, encode = 0, 1, 2
	var now, hostBusy, cardBusy float64
	var events calendar
	free := w.cores
	var waiting []happening // for a core
	on := make([]int, pictures)
	lanes, queues, running := make([]int, n), make([][]int, n), make([]bool, n)
	next := 0
	core := func(h happening) {
		if free == 0 {
			waiting = append(waiting, h)
			return
		}
		free--
		d := w.host[h.step/2]
		hostBusy += d
		heap.Push(&events, happening{now + d, h.picture, h.step})
	}
	card := func(c int) {
		if running[c] || len(queues[c]) == 0 {
			return
		}
		p := queues[c][0]
		queues[c], running[c] = queues[c][1:], true
		cardBusy += took[p]
		heap.Push(&events, happening{now + took[p], p, run})
	}
	admit := func() {
		for next < pictures {
			best := 0
			for c := range lanes {
				if lanes[c] < lanes[best] {
					best = c
				}
			}
			if lanes[best] == w.lanes {
				return
			}
			lanes[best]++
			on[next] = best
			core(happening{picture: next, step: decode})
			next++
		}
	}
	admit()
	for events.Len() > 0 {
		h := heap.Pop(&events).(happening)
		now = h.at
		c := on[h.picture]
		switch h.step {
		case decode:
			queues[c] = append(queues[c], h.picture)
		case run:
			running[c] = false
			core(happening{picture: h.picture, step: encode})
		case encode:
			lanes[c]--
		}
		if h.step != run {
			free++
			if len(waiting) > 0 {
				first := waiting[0]
				waiting = waiting[1:]
				core(first)
			}
		}
		card(c)
		admit()
	}
	return 1000 * float64(pictures) / now, cardBusy / now / float64(n), hostBusy / now / float64(w.cores)
}

// Durations of docs/floors.md on an H200 at 1280×720, predicted, with the estimator: the released model's networks in equal
// shares. Decoding and encoding a JPEG of that size as measured on a core that other programs shared, the least of three.
var (
	networks = []float64{53.8, 43.5, 13.7, 43.5, 7.6}
	jpeg     = [2]float64{110, 276}
)

// More cards give their multiple while the host keeps up; where it does not, it is what binds.
func TestThroughputOfSeveralCards(t *testing.T) {
	for _, c := range []struct {
		cores     int
		two, four float64 // at least
		binds     string
	}{
		{cores: 64, two: 1.95, four: 3.8, binds: "cards"},
		{cores: 16, two: 1.25, four: 1.25, binds: "host"},
	} {
		w := workload{host: jpeg, card: networks, cores: c.cores, lanes: 16}
		one, _, _ := play(w, 1, 2000)
		text := fmt.Sprintf("%2d cores: 1 card %5.1f pictures/s", c.cores, one)
		for _, n := range []int{2, 4} {
			rate, cards, host := play(w, n, 2000)
			binds := "cards"
			if host > cards {
				binds = "host"
			}
			text += fmt.Sprintf("; %d cards %5.1f (%.2f×, cards busy %.0f %%, host %.0f %%: %s)", n, rate, rate/one, 100*cards, 100*host, binds)
			if n == 2 {
				require.Greater(t, rate/one, c.two, text)
			} else {
				require.Equal(t, c.binds, binds, text)
				require.Greater(t, rate/one, c.four, text)
			}
		}
		t.Log(text)
	}
}

// With too few pictures at a time a card waits for the host, however many cores there are.
func TestCardNeedsPicturesEnoughAtATime(t *testing.T) {
	few, busy, _ := play(workload{host: jpeg, card: networks, cores: 64, lanes: 2}, 1, 1000)
	many, full, _ := play(workload{host: jpeg, card: networks, cores: 64, lanes: 16}, 1, 1000)
	require.Less(t, busy, 0.5)
	require.Greater(t, full, 0.95)
	require.Greater(t, many, 2*few)
}

// The model against what can be counted by hand.
func TestModelOfThroughputIsExactWhereItCanBeCounted(t *testing.T) {
	rate, cards, _ := play(workload{card: []float64{10}, cores: 1, lanes: 1}, 1, 100)
	require.InDelta(t, 100, rate, 1e-9)
	require.InDelta(t, 1, cards, 1e-9)
	rate, _, _ = play(workload{card: []float64{10}, cores: 1, lanes: 1}, 4, 100)
	require.InDelta(t, 400, rate, 1e-9)
	rate, _, host := play(workload{host: [2]float64{10, 10}, card: []float64{0}, cores: 2, lanes: 4}, 1, 100)
	require.InDelta(t, 100, rate, 1e-9)
	require.InDelta(t, 1, host, 1e-9)
	rate, _, _ = play(workload{host: [2]float64{10, 10}, card: []float64{10}, cores: 9, lanes: 1}, 1, 100)
	require.InDelta(t, 1000./30, rate, 1e-9, "one at a time, step after step")
}
