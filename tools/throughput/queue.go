package main

import (
	"container/heap"
	"fmt"
	"strings"
)

// station is something that all workers of a queue share and that does one thing after the other.
type station int

const (
	requests station = iota // of messages, to consumers
	messages                // published to and acknowledged in the stream
	reads                   // of records
	writes                  // of records
	s3Reads
	s3Writes
	stations
)

var stationNames = [stations]string{"requests for messages", "the stream", "reads of records", "records", "reads from S3", "writes to S3"}

// rates are what stations carry a second, and how long their answers take beside in milliseconds.
type rates struct {
	name    string
	carries [stations]float64
	latency [stations]float64
}

// place is where a step is.
type place int

const (
	shared place = iota // at a station
	onHost
	onGPU
)

// visit is a step of a picture's way through a worker: a station, or time of its own.
type visit struct {
	at   station
	on   place
	host float64 // milliseconds, on the worker's machine
}

// way is what runtime/jobs does for a picture from S3 between taking its message and the end of it, in order.
func way(decode, encode float64) []visit {
	at := func(s ...station) (v []visit) {
		for _, k := range s {
			v = append(v, visit{at: k})
		}
		return v
	}
	var v []visit
	v = append(v, at(requests, reads, s3Reads)...)                // to route
	v = append(v, visit{on: onHost, host: decode})                // and estimate
	v = append(v, at(reads, writes, messages, messages)...)       // account, hand on, acknowledge
	v = append(v, at(requests, reads, reads, writes, s3Reads)...) // to restore; begin the try
	v = append(v, visit{on: onHost, host: decode}, visit{on: onGPU}, visit{on: onHost, host: encode})
	return append(v, at(s3Writes, reads, writes, messages)...) // store, account, acknowledge
}

// submitted is what its submitter does for a picture, for which no worker waits.
var submitted = []station{reads, writes, messages}

// queuePlay has workers, so many a GPU, take pictures from a queue that never runs dry, and returns pictures a second, the
// share of the time that GPUs are busy, and the busiest station with its share. Times are in milliseconds; host are those of
// decoding and of encoding.
func queuePlay(r rates, gpus, workers int, gpu float64, host [2]float64, pictures int) (rate, busy float64, binds string, share float64) {
	steps := way(host[0], host[1])
	var free, used [stations]float64
	card, cardUsed := make([]float64, gpus), 0.0
	visitStation := func(s station, now float64) float64 {
		d := 1000 / r.carries[s]
		free[s] = max(free[s], now) + d
		used[s] += d
		return free[s] + r.latency[s]
	}
	at := make([]int, gpus*workers) // the step of each worker
	var events calendar
	for w := range at {
		heap.Push(&events, happening{at: float64(w) * gpu / float64(len(at)), picture: w})
	}
	done, begun, from, now := 0, 0, 0.0, 0.0
	warm := pictures / 4 // until queues have their lengths
	var usedBefore [stations]float64
	cardBefore := 0.0
	for done < pictures {
		h := heap.Pop(&events).(happening)
		now = h.at
		w := h.picture
		if at[w] == len(steps) {
			at[w] = 0
			if done++; done == warm {
				from, usedBefore, cardBefore = now, used, cardUsed
			}
		}
		if at[w] == 0 {
			begun++
			for _, s := range submitted {
				visitStation(s, now)
			}
		}
		v := steps[at[w]]
		at[w]++
		switch v.on {
		case onGPU:
			c := w / workers
			card[c] = max(card[c], now) + gpu
			cardUsed += gpu
			now = card[c]
		case onHost:
			now += v.host
		default:
			now = visitStation(v.at, now)
		}
		heap.Push(&events, happening{at: now, picture: w})
	}
	span := now - from
	for s := range used {
		if u := (used[s] - usedBefore[s]) / span; u > share {
			share, binds = u, stationNames[s]
		}
	}
	return 1000 * float64(pictures-warm) / span, min((cardUsed-cardBefore)/span/float64(gpus), 1), binds, min(share, 1)
}

// queueTable plays fleets of several sizes.
func queueTable(all []rates, host [2]float64) string {
	var b strings.Builder
	b.WriteString("| queue | ms a picture | GPUs | processes a GPU | pictures/s | GPUs busy | busiest |\n|---|---:|---:|---:|---:|---:|---|\n")
	for _, r := range all {
		for _, gpu := range []float64{100, 400} {
			for _, gpus := range []int{10, 100, 300, 1000} {
				for _, workers := range []int{1, 4} {
					rate, busy, binds, share := queuePlay(r, gpus, workers, gpu, host, 30*gpus*workers)
					fmt.Fprintf(&b, "| %s | %.0f | %d | %d | %.0f | %.0f %% | %s, %.0f %% |\n", r.name, gpu, gpus, workers, rate, 100*busy, binds, 100*share)
				}
			}
		}
	}
	return b.String()
}
