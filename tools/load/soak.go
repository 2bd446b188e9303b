package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"unirestorer"
)

// moment is what the server holds at a time.
type moment struct {
	pictures              int
	memory                int64
	goroutines, files, mb float64
}

func momentOf(s *server, pictures int) (m moment, err error) {
	m = moment{pictures: pictures, memory: s.status("VmRSS")}
	if m.goroutines, err = s.metric("go_goroutines"); err != nil {
		return m, err
	}
	if m.mb, err = s.metric("unirestorer_memory_reserved_bytes"); err != nil {
		return m, err
	}
	m.files, err = s.metric("process_open_fds")
	return m, err
}

// kinds are what the built-in model restores, as tools make it.
var kinds = []string{"", "rain:0.6", "haze:0.5", "snow:0.5", "noise:0.4", "motion:0.5", "defocus:0.5", "lowlight:0.5", "jpeg:0.5", "rain:0.4+noise:0.2"}

// soakAction sends many pictures and fails where the server holds more at the end than after a tenth of them.
func soakAction(c *cli.Context) error {
	ctx := c.Context
	s, err := startServer(ctx, serveArgs(c.String("program"))...)
	if err != nil {
		return err
	}
	defer s.stop()
	total, clients := c.Int("pictures"), c.Int("clients")
	var sizes [][2]int
	rng := rand.New(rand.NewPCG(27, 1))
	seen := map[[2]int]bool{}
	for len(sizes) < c.Int("sizes") {
		size := [2]int{1 + rng.IntN(c.Int("largest")), 1 + rng.IntN(c.Int("largest"))}
		if !seen[size] {
			seen[size] = true
			sizes = append(sizes, size)
		}
	}
	var moments []moment
	sender := client(clients)
	fmt.Println("pictures | memory | goroutines | descriptors | reserved")
	for done := 0; done < total; {
		n := min(max(total/10, 1), total-done)
		if err := soakPart(ctx, sender, s.url, sizes, done, n, clients); err != nil {
			if ctx.Err() != nil { // the server ends with this program, whatever its requests came to
				return fmt.Errorf("ended by a signal: %w", ctx.Err())
			}
			return fmt.Errorf("%w\nthe server said last:\n%s", err, s.lately())
		}
		done += n
		time.Sleep(time.Second) // connections and bodies of the last are gone then
		m, err := momentOf(s, done)
		if err != nil {
			return err
		}
		moments = append(moments, m)
		fmt.Printf("%8d | %s | %.0f | %.0f | %s\n", m.pictures, humanize.IBytes(uint64(m.memory)), m.goroutines, m.files, humanize.IBytes(uint64(m.mb)))
	}
	first, last := moments[0], moments[len(moments)-1]
	panics, err := s.metric("unirestorer_panics_total")
	switch {
	case err != nil:
		return err
	case panics > 0:
		return fmt.Errorf("%.0f panics", panics)
	case last.goroutines > first.goroutines+8 || last.files > first.files+8:
		return errors.New("goroutines or descriptors grew")
	case float64(last.memory) > 1.1*float64(first.memory)+32<<20:
		return fmt.Errorf("memory grew by %.0f %%", 100*(float64(last.memory)/float64(first.memory)-1))
	}
	fmt.Printf("memory %+.1f %%, goroutines %+.0f, descriptors %+.0f from the first line to the last\n",
		100*(float64(last.memory)/float64(first.memory)-1), last.goroutines-first.goroutines, last.files-first.files)
	return nil
}

// formats are what pictures are written in.
var formats = []string{"png", "jpeg", "webp", "tiff", "bmp"}

// soakOne sends picture k and looks at the answer.
func soakOne(ctx context.Context, c *http.Client, base string, k int, size [2]int) error {
	picture, err := spoilt(ctx, kinds[k%len(kinds)], 13*k, 7*k, size[0], size[1], formats[k%len(formats)])
	if err != nil {
		return err
	}
	query := url.Values{}
	if k%3 == 0 { // every expert, whatever the router would choose
		query.Set("expert", strconv.Itoa(k/3%15))
	}
	inJSON := k%11 == 0
	if inJSON {
		query.Set("report", "json")
	}
	status, answer, err := post(ctx, c, base+"/v1/restore?"+query.Encode(), picture)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("status %d: %.300s", status, answer)
	}
	if inJSON {
		var report struct{ Image []byte }
		if err := json.Unmarshal(answer, &report); err != nil {
			return err
		}
		answer = report.Image
	}
	restored, err := unirestorer.Decode(bytes.NewReader(answer))
	if err != nil {
		return fmt.Errorf("the answer: %w", err)
	}
	if restored.W != size[0] || restored.H != size[1] {
		return fmt.Errorf("the answer has %d×%d pixels", restored.W, restored.H)
	}
	return nil
}

// soakPart sends n pictures from the one with a number on.
func soakPart(ctx context.Context, c *http.Client, base string, sizes [][2]int, from, n, clients int) error {
	var next atomic.Int64
	var mu sync.Mutex
	var failed error
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				k := from + i
				size := sizes[k*7%len(sizes)]
				if err := soakOne(ctx, c, base, k, size); err != nil {
					mu.Lock()
					failed = errors.Join(failed, fmt.Errorf("%s: picture %d of %v pixels: %w", time.Now().UTC().Format(time.TimeOnly), k, size, err))
					mu.Unlock()
					return
				}
			}
		})
	}
	all.Wait()
	return failed
}
