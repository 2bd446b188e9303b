//go:build unix

package jobs

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"unirestorer"
)

// pictureFile writes a small picture that no other seed gives.
func pictureFile(t *testing.T, path string, seed uint64) []byte {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 11))
	img := image.NewNRGBA(image.Rect(0, 0, 16, 16))
	for y := range 16 {
		for x := range 16 {
			v := uint8(8*x + 4*y + r.IntN(60))
			img.SetNRGBA(x, y, color.NRGBA{v, uint8(r.IntN(60)) + v/2, 255 - v, 255})
		}
	}
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, img))
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o666))
	return b.Bytes()
}

// fakeS3 is a server of S3's protocol with a bucket "bucket".
func fakeS3(t *testing.T) {
	t.Helper()
	backend := s3mem.New()
	require.NoError(t, backend.CreateBucket("bucket"))
	s := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(s.Close)
	t.Setenv("AWS_ENDPOINT_URL", s.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_REGION", "us-east-1")
}

// smallDisk is a file system with room for so many small files where the test may make one, and otherwise a folder.
func smallDisk(t *testing.T, path string, files int) (full func(bool), own bool) {
	t.Helper()
	require.NoError(t, os.MkdirAll(path, 0o777))
	if err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dk", 1024+8*files), "tmpfs", path).Run(); err != nil {
		t.Logf("no file system of its own may be mounted, so none runs full: %v", err)
		return func(bool) {}, false
	}
	t.Cleanup(func() { require.NoError(t, exec.Command("umount", "-l", path).Run()) })
	ballast := filepath.Join(path, ".ballast")
	return func(on bool) {
		if !on {
			require.NoError(t, os.Remove(ballast))
			return
		}
		f, err := os.Create(ballast)
		require.NoError(t, err)
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.NoError(t, f.Close())
	}, true
}

// TestNothingIsLostThroughKillsOfEverything has pictures restored by four workers over three servers, while each part is
// killed, hung or filled. UNIRESTORER_TEST_JOBS is the number of pictures; without it nothing runs.
func TestNothingIsLostThroughKillsOfEverything(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("UNIRESTORER_TEST_JOBS"))
	if err != nil {
		t.Skip("starts a cluster and kills its parts: make test has 100 pictures, make jobs-faults 1,000")
	}
	ctx, cancel := context.WithCancel(context.Background()) // without a deadline: answers may die with a server
	defer cancel()
	defer time.AfterFunc(2*time.Minute+time.Duration(n)*time.Second, cancel).Stop()
	dir := t.TempDir()
	began := time.Now()
	say := func(format string, args ...any) {
		t.Logf("%6.1f s  %s", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	log := filepath.Join(dir, "workers.log")
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range []string{"workers", "n0", "n1", "n2"} {
				text, _ := os.ReadFile(filepath.Join(dir, name+".log"))
				t.Logf("%s said: %s", name, text[max(len(text)-4000, 0):])
			}
		}
	})
	fakeS3(t)
	disk := filepath.Join(dir, "out")
	full, own := smallDisk(t, disk, n)
	nodes, urls := cluster(t, dir)

	inS3, inFolder := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	names := map[string][]byte{}
	for i := range n {
		folder := inS3
		if i%2 == 1 {
			folder = inFolder
		}
		name := fmt.Sprintf("p%04d.png", i)
		names[name] = pictureFile(t, filepath.Join(folder, "sub", name), uint64(i))
	}
	for _, f := range []string{inS3, inFolder} {
		require.NoError(t, os.WriteFile(filepath.Join(f, "poison.png"), []byte("\x89PNG\r\n\x1a\n"+f), 0o666))
	}

	limits := Limits{AckWait: 2 * time.Second, Duplicates: time.Second, MaxAge: 30 * time.Second}
	worker := func(name string) *process {
		return start(t, "worker", roleArgs{URL: urls, Name: name, Limits: limits}, log)
	}
	submit := func(in, to string) *process {
		return start(t, "submitter", roleArgs{URL: urls, Name: "submitter", Limits: limits, Inputs: []string{in}, To: to}, log)
	}
	q, err := Connect(ctx, Access{URL: urls, Patience: time.Minute}, limits)
	require.NoError(t, err)
	defer q.Close()
	say("the cluster is there")
	workers := []*process{worker("w0"), worker("w1"), worker("w2"), worker("w3")}
	first, second := submit(inS3, "s3://bucket/results"), submit(inFolder, disk)

	counts := func() Counts {
		all, err := q.All(ctx, "")
		if err != nil {
			say("count: %v", err)
			time.Sleep(time.Second)
			return Counts{}
		}
		return Count(all)
	}
	until := func(what string, ok func(Counts) bool) {
		for !ok(counts()) {
			if ctx.Err() != nil {
				t.Fatalf("%s: %v", what, counts())
			}
			time.Sleep(50 * time.Millisecond)
		}
		say("%s: %v", what, counts())
	}
	until("the first submitter dies", func(c Counts) bool { return c.Total() > n/10 })
	first.kill()
	first = submit(inS3, "s3://bucket/results")
	until("a worker dies", func(c Counts) bool { return c.Done > n/10 })
	workers[0].kill()
	until("a worker hangs", func(c Counts) bool { return c.Done > n/5 })
	require.NoError(t, workers[1].Process.Signal(syscall.SIGSTOP))
	workers = append(workers, worker("w4"))
	until("the disk is full", func(c Counts) bool { return c.Done > 3*n/10 })
	full(true)
	if own {
		until("a result found no room", func(Counts) bool { return postponed(ctx, q) > 0 })
		time.Sleep(time.Second)
	}
	full(false)
	say("the disk has room again")
	i := leader(ctx, t, q, nodes)
	say("the leader of the stream dies: %v", counts())
	nodes[i].kill()
	time.Sleep(2 * time.Second)
	nodes[i] = start(t, "node", nodes[i].args, nodes[i].log)
	until("there is another", func(c Counts) bool { return c.Total() > 0 })
	require.NoError(t, workers[1].Process.Signal(syscall.SIGCONT))
	require.NoError(t, first.end(ctx), "a submitter")
	require.NoError(t, second.end(ctx), "a submitter")
	until("everything is final", func(c Counts) bool { return c.Total() >= n+2 && c.Final() == c.Total() })

	checkResults(ctx, t, q, names, disk)
	elapsed := time.Since(began)
	say("%d pictures, 0 lost, 0 wrong, both poisoned ones reported; %.1f pictures/s through all faults", n, float64(n)/elapsed.Seconds())
}

// postponed is how many jobs wait because a place had no room or did not answer.
func postponed(ctx context.Context, q *Queue) (n int) {
	all, err := q.All(ctx, "")
	for _, r := range all {
		if err == nil && strings.HasPrefix(r.Error, "postponed") {
			n++
		}
	}
	return n
}

// leader is the index of the server that leads the stream.
func leader(ctx context.Context, t *testing.T, q *Queue, nodes []*process) int {
	t.Helper()
	for ctx.Err() == nil {
		info, err := q.stream.Info(ctx)
		for i, node := range nodes {
			if err == nil && info.Cluster != nil && node.args.Name == info.Cluster.Leader {
				return i
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("the stream has no leader")
	return 0
}

// checkResults holds every result against what restore makes of its picture, and failures against the dead letters.
func checkResults(ctx context.Context, t *testing.T, q *Queue, names map[string][]byte, disk string) {
	t.Helper()
	r, err := unirestorer.Open(ctx)
	require.NoError(t, err)
	defer r.Close()
	st := &storage{q: q}
	keys, err := st.listS3(ctx, "s3://bucket/results/")
	require.NoError(t, err)
	results := map[string][]byte{}
	for _, k := range keys {
		if !strings.Contains(k, "/.inputs/") {
			results[filepath.Base(k)], err = st.read(ctx, "s3://bucket/"+k, maxBytes)
			require.NoError(t, err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(disk, "sub"))
	require.NoError(t, err)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tmp") {
			continue // of a worker that was killed while it wrote
		}
		require.NotContains(t, results, e.Name())
		results[e.Name()], err = os.ReadFile(filepath.Join(disk, "sub", e.Name()))
		require.NoError(t, err)
	}
	require.Len(t, results, len(names), "lost, or more than were asked for")
	for name, in := range names {
		var want bytes.Buffer
		_, err := r.RestoreStream(ctx, bytes.NewReader(in), &want)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want.Bytes(), results[name]), "%s is wrong", name)
	}
	all, err := q.All(ctx, "")
	require.NoError(t, err)
	c := Count(all)
	require.Equal(t, Counts{Done: len(names), Failed: 2}, c)
	for _, r := range all {
		if r.State != Failed {
			continue
		}
		require.Equal(t, "poison.png", filepath.Base(r.Name))
		require.NotEmpty(t, r.Error)
		s, err := q.js.Stream(ctx, deadName)
		require.NoError(t, err)
		m, err := s.GetLastMsgForSubject(ctx, deadRoot+"."+r.Model+"."+r.ID)
		require.NoError(t, err)
		require.Contains(t, string(m.Data), r.ID)
	}
	require.Eventually(t, func() bool {
		info, err := q.stream.Info(ctx, jetstream.WithSubjectFilter(root+".>"))
		return err == nil && info.State.Msgs == 0
	}, 30*time.Second, 100*time.Millisecond, "messages are left")
}
