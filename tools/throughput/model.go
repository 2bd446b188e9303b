package main

import (
	"container/heap"
	"math/rand/v2"
)

// workload is pictures whose steps are known, in milliseconds: decoding and encoding take one core of the host each, the
// network a card.
type workload struct {
	host         [2]float64 // decode, encode; the way to a worker's process and back is part of decoding
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
