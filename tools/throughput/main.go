// Command throughput predicts how many pictures a second several GPUs restore, by a model of the queue with discrete events:
// networks take the times that docs/floors.md predicts, decoding and encoding the processor time that they take on this
// machine. It writes the table of docs/nvidia.md. With -queue it plays fleets that take pictures from a queue on NATS, whose
// speed it measures on this machine, and writes the table of docs/jobs.md.
//
//	go run ./tools/throughput
//	go run ./tools/throughput -queue
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"image"
	_ "image/png" // the photo
	"io"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"unirestorer"
	"unirestorer/runtime/fleet"
	"unirestorer/runtime/proctime"
	"unirestorer/weights/atomicfile"
)

// pixels are the size that floors.md has and pictures are made of.
const pixels = "1280×720"

// Marks in the page.
const (
	from = "<!-- throughput: written by go run ./tools/throughput"
	to   = "<!-- /throughput -->"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("throughput: ")
	dir := flag.String("root", ".", "`folder` of the module")
	passing := flag.Duration("passing", 300*time.Microsecond, "what the way to a worker's process and back takes of a core")
	queue := flag.Bool("queue", false, "play fleets at a queue on NATS")
	measured := flag.Bool("measure", true, "with -queue: measure queues on this machine, for half a minute")
	flag.Parse()
	if *queue {
		if err := runQueue(context.Background(), *dir, *measured); err != nil {
			log.Fatal(err)
		}
		return
	}
	if err := run(*dir, *passing); err != nil {
		log.Fatal(err)
	}
}

func run(dir string, passing time.Duration) error {
	page, err := os.ReadFile(filepath.Join(dir, "docs", "floors.md"))
	if err != nil {
		return err
	}
	card, times, err := floors(string(page))
	if err != nil {
		return fmt.Errorf("docs/floors.md: %w", err)
	}
	decode, encode, err := measure(filepath.Join(dir, "testdata", "photos", "rain.png"))
	if err != nil {
		return err
	}
	host := [2]float64{ms(decode + passing), ms(encode)}
	var text strings.Builder
	fmt.Fprintf(&text, "%s, JPEGs of %s (decoding %.0f ms and encoding %.0f ms of one core), the released model's networks in equal shares:\n\n",
		card, pixels, host[0], host[1])
	text.WriteString("| cores | 1 GPU, pictures/s | 2 GPUs | 4 GPUs | binds with 4 |\n|---:|---:|---:|---:|---|\n")
	for _, cores := range []int{8, 16, 32, 64, 128} {
		r := scale(times, host, cores)
		fmt.Fprintf(&text, "| %d | %.1f | %.2f× | %.2f× | %s: GPUs %.0f %% busy, host %.0f %% |\n", cores, r.one, r.two, r.four, r.binds, 100*r.cards, 100*r.host)
	}
	return writeTable(context.Background(), filepath.Join(dir, "docs", "nvidia.md"), text.String())
}

// writeTable puts text between the marks of a page.
func writeTable(ctx context.Context, path, text string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	made, err := between(string(old), text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return atomicfile.Write(ctx, path, func(w io.Writer) error { _, err := io.WriteString(w, made); return err })
}

// runQueue measures queues of one server and of three on this machine, and plays fleets at them and at faster ones.
func runQueue(ctx context.Context, dir string, measured bool) error {
	decode, encode, err := measure(filepath.Join(dir, "testdata", "photos", "rain.png"))
	if err != nil {
		return err
	}
	// S3 as Amazon documents it: 5,500 reads and 3,500 writes a second a prefix, answers after some 20 to 40 ms.
	store := func(r *rates, prefixes float64) {
		r.carries[s3Reads], r.carries[s3Writes] = 5500*prefixes, 3500*prefixes
		r.latency = [stations]float64{0.5, 1, 0.5, 1, 20, 40}
	}
	var all []rates
	var text strings.Builder
	for _, n := range []int{1, 3} {
		if !measured {
			break
		}
		r, err := measureQueue(ctx, n)
		if err != nil {
			return fmt.Errorf("queue of %d servers: %w", n, err)
		}
		store(&r, 8)
		r.name = fmt.Sprintf("%d here", n)
		all = append(all, r)
		fmt.Fprintf(&text, "Measured here, %d servers on two cores with their callers: %.0f messages published, %.0f records written, %.0f read, %.0f requests for messages answered a second.\n", n, r.carries[messages], r.carries[writes], r.carries[reads], r.carries[requests])
	}
	fast := rates{name: "assumed"}
	fast.carries = [stations]float64{100_000, 20_000, 100_000, 20_000}
	store(&fast, 8)
	all = append(all, fast)
	fmt.Fprintf(&text, "JPEGs of %s, decoding %.0f ms and encoding %.0f ms of one core.\n\n%s", pixels, ms(decode), ms(encode), queueTable(all, [2]float64{ms(decode), ms(encode)}))
	return writeTable(ctx, filepath.Join(dir, "docs", "jobs.md"), text.String())
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// row is what the model says of a host.
type row struct {
	one, two, four float64 // pictures a second; multiples of one
	cards, host    float64 // shares of the time that four cards and their host are busy
	binds          string
}

// scale plays 1, 2 and 4 cards on a host with so many cores, with as many pictures at a time as the program takes.
func scale(network []float64, host [2]float64, cores int) row {
	at := func(n int) (rate, cards, busy float64) {
		return play(workload{host: host, card: network, cores: cores, lanes: fleet.PicturesAtATime(cores, n)}, n, 4000)
	}
	one, _, _ := at(1)
	two, _, _ := at(2)
	four, cards, busy := at(4)
	r := row{one: one, two: two / one, four: four / one, cards: cards, host: busy, binds: "GPUs"}
	if busy > cards {
		r.binds = "host"
	}
	return r
}

// floors reads the card, and the predicted time of each network with the estimator, in milliseconds.
func floors(page string) (card string, times []float64, err error) {
	const title = "## Networks on "
	_, rest, found := strings.Cut(page, title)
	if !found {
		return "", nil, fmt.Errorf("no part %q", title)
	}
	card, rest, _ = strings.Cut(rest, "\n")
	rest, _, _ = strings.Cut(rest, "\n## ")
	var columns []string
	estimator := 0.0
	for line := range strings.Lines(rest) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if columns == nil && cells[0] == "network" {
			columns = cells
			continue
		}
		value := map[string]string{}
		for i, c := range columns {
			if i < len(cells) {
				value[c] = cells[i]
			}
		}
		name := value["network"]
		if name != "estimator" && (value["pixels"] != pixels || strings.Contains(name, "branch")) {
			continue
		}
		t, err := strconv.ParseFloat(value["predicted (ms)"], 64)
		switch {
		case err != nil:
			return "", nil, fmt.Errorf("%s: %w", name, err)
		case name == "estimator":
			estimator = t
		default:
			times = append(times, t)
		}
	}
	if len(times) == 0 {
		return "", nil, fmt.Errorf("no networks at %s", pixels)
	}
	for i := range times {
		times[i] += estimator
	}
	return card, times, nil
}

// measure takes the processor time of decoding and encoding a JPEG made of a photo, the least of several runs.
func measure(photo string) (decode, encode time.Duration, err error) {
	f, err := os.Open(photo)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	img, _, err := image.Decode(f)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", photo, err)
	}
	large := image.NewNRGBA(image.Rect(0, 0, 1280, 720))
	b := img.Bounds()
	for y := range 720 {
		for x := range 1280 {
			large.Set(x, y, img.At(b.Min.X+x%b.Dx(), b.Min.Y+y%b.Dy()))
		}
	}
	var file bytes.Buffer
	for range 7 {
		file.Reset()
		start := proctime.Used()
		if err := unirestorer.Encode(&file, large, "jpeg"); err != nil {
			return 0, 0, err
		}
		encoded := proctime.Used()
		if _, err := unirestorer.Decode(bytes.NewReader(file.Bytes())); err != nil {
			return 0, 0, err
		}
		encode, decode = least(encode, encoded-start), least(decode, proctime.Used()-encoded)
	}
	return decode, encode, nil
}

func least(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// between puts text between the marks of a page.
func between(page, text string) (string, error) {
	before, rest, ok := strings.Cut(page, from)
	command, rest, eol := strings.Cut(rest, "\n")
	_, after, end := strings.Cut(rest, to)
	if !ok || !eol || !end {
		return "", errors.New("the page has no place for the table")
	}
	return before + from + command + "\n" + text + to + after, nil
}
