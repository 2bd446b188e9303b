package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	_ "image/jpeg" // both servers answer with JPEG
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"
)

// prepared is what tools/peers prepare says.
type prepared struct{ Architecture, Args, Weights, Model string }

func prepare(ctx context.Context, network string, size int) (p prepared, err error) {
	cmd := exec.CommandContext(ctx, "go", "run", "./tools/peers", "prepare", "--network", network, "--size", strconv.Itoa(size))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return p, fmt.Errorf("tools/peers prepare: %w", err)
	}
	return p, json.Unmarshal(out, &p)
}

// netArgs are what unirestorer needs to know beside the weights.
func (p prepared) netArgs() (string, error) {
	args := map[string]any{}
	if err := json.Unmarshal([]byte(p.Args), &args); err != nil {
		return "", err
	}
	args["architecture"] = p.Architecture
	text, err := json.Marshal(args)
	return string(text), err
}

const (
	ours = iota
	node
)

var names = [2]string{"unirestorer", "node"}

// query has our server answer as the other does.
const query = "/v1/restore?format=jpeg&quality=95&chroma=420"

func peersAction(c *cli.Context) error {
	for _, network := range c.StringSlice("network") {
		if err := comparePeers(c, network); err != nil {
			return fmt.Errorf("%s: %w", network, err)
		}
	}
	return nil
}

func comparePeers(c *cli.Context, network string) error {
	ctx, size := c.Context, c.Int("size")
	p, err := prepare(ctx, network, size)
	if err != nil {
		return err
	}
	args, err := p.netArgs()
	if err != nil {
		return err
	}
	workers := c.Int("workers")
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	commands := [2][]string{
		serveArgs(c.String("program"), "--model", p.Weights, "--net-args", args),
		{"node", "tools/peers/server.mjs", "--model", p.Model, "--workers", strconv.Itoa(workers), "--threads", c.String("worker-threads")},
	}
	picture, err := spoilt(ctx, "", 40, 40, size, size, "jpeg")
	if err != nil {
		return err
	}
	fmt.Printf("\n%s, %d×%d, JPEG in and out; node: %d workers of %s threads; %d cores\n\n", network, size, size, workers, c.String("worker-threads"), runtime.NumCPU())
	if err := coldStarts(ctx, commands, picture, c.Int("cold-rounds")); err != nil {
		return err
	}
	var servers [2]*server
	for i, argv := range commands {
		if servers[i], err = startServer(ctx, argv...); err != nil {
			return err
		}
		defer servers[i].stop()
	}
	if err := agree(ctx, servers, picture); err != nil {
		return err
	}
	fmt.Println("clients | p50 ms: unirestorer, node, ratio | p99 ms: unirestorer, node, ratio | pictures/s: unirestorer, node, ratio")
	for _, n := range c.IntSlice("clients") {
		if err := rounds(ctx, servers, picture, n, c.Int("rounds"), c.Duration("turn")); err != nil {
			return err
		}
	}
	a, b := servers[ours].status("VmHWM"), servers[node].status("VmHWM")
	fmt.Printf("peak memory: %s, %s, ratio %.2f\n", humanize.IBytes(uint64(a)), humanize.IBytes(uint64(b)), float64(a)/float64(b))
	return nil
}

// agree holds both answers against each other.
func agree(ctx context.Context, servers [2]*server, picture []byte) error {
	var images [2]image.Image
	for i, s := range servers {
		status, answer, err := post(ctx, client(1), s.url+query, picture)
		if err != nil {
			return err
		}
		if status != 200 {
			return fmt.Errorf("%s: status %d: %.200s", names[i], status, answer)
		}
		if images[i], _, err = image.Decode(bytes.NewReader(answer)); err != nil {
			return err
		}
	}
	a, b := images[0], images[1]
	if a.Bounds() != b.Bounds() {
		return fmt.Errorf("sizes %v and %v", a.Bounds(), b.Bounds())
	}
	var sum float64
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			r, g, bl, _ := a.At(x, y).RGBA()
			r2, g2, bl2, _ := b.At(x, y).RGBA()
			for _, d := range []int{int(r) - int(r2), int(g) - int(g2), int(bl) - int(bl2)} {
				sum += float64(d) * float64(d) / (257 * 257)
			}
		}
	}
	psnr := 10 * math.Log10(255*255/max(sum/float64(3*a.Bounds().Dx()*a.Bounds().Dy()), 1e-9))
	fmt.Printf("the answers agree to %.1f dB (two JPEG encoders)\n", psnr)
	if psnr < 30 {
		return fmt.Errorf("the servers answer with different pictures: %.1f dB", psnr)
	}
	return nil
}

// coldStarts takes the time from a process' start to its first answer.
func coldStarts(ctx context.Context, commands [2][]string, picture []byte, rounds int) error {
	var took [2][]float64
	for range rounds {
		for i, argv := range commands {
			began := time.Now()
			s, err := startServer(ctx, argv...)
			if err != nil {
				return err
			}
			status, answer, err := post(ctx, client(1), s.url+query, picture)
			took[i] = append(took[i], time.Since(began).Seconds())
			s.stop()
			if err != nil || status != 200 {
				return fmt.Errorf("%s: status %d: %.200s: %w", names[i], status, answer, err)
			}
		}
	}
	if rounds > 0 {
		fmt.Printf("cold start to the first answer: %.2f s, %.2f s, ratio %.2f\n", median(took[ours]), median(took[node]), medianRatio(took[ours], took[node]))
	}
	return nil
}

// rounds has both servers take turns with n clients.
func rounds(ctx context.Context, servers [2]*server, picture []byte, n, rounds int, turn time.Duration) error {
	var p50, p99, rate [2][]float64
	var all [2]times
	c := client(n)
	for round := range rounds {
		for k := range 2 {
			i := (round + k) % 2
			if _, err := closedLoop(ctx, c, servers[i].url+query, picture, n, 0); err != nil { // the caches are full of the other's data
				return err
			}
			t, err := closedLoop(ctx, c, servers[i].url+query, picture, n, turn)
			if err != nil {
				return err
			}
			all[i].seconds = append(all[i].seconds, t.seconds...)
			p50[i], p99[i], rate[i] = append(p50[i], t.quantile(0.5)), append(p99[i], t.quantile(0.99)), append(rate[i], t.rate)
		}
	}
	ms := func(i int, share float64) float64 { return 1000 * all[i].quantile(share) }
	fmt.Printf("%7d | %8.1f %8.1f %5.2f | %8.1f %8.1f %5.2f | %6.2f %6.2f %5.2f\n", n,
		ms(ours, 0.5), ms(node, 0.5), medianRatio(p50[ours], p50[node]),
		ms(ours, 0.99), ms(node, 0.99), medianRatio(p99[ours], p99[node]),
		median(rate[ours]), median(rate[node]), medianRatio(rate[ours], rate[node]))
	return nil
}

// medianRatio is over rounds, so that what slows the machine for longer than a round does not change it.
func medianRatio(a, b []float64) float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	return median(ratios)
}
