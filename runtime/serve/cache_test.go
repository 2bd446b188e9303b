package serve

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/folders"
)

func TestKeptResultsAreFound(t *testing.T) {
	dir := t.TempDir()
	s, url := start(t, model(t), Config{Cache: dir, CacheBytes: 1 << 20})
	in := picture(t, 40, 24)
	ask := func(path string, headers ...string) (*http.Response, []byte) {
		res, got := send(t, url+path, in, headers...)
		require.Equal(t, 200, res.StatusCode, string(got))
		return res, got
	}
	settled := func(n int) {
		require.Eventually(t, func() bool {
			files, err := filepath.Glob(filepath.Join(dir, "??", "????????????????????????????????"))
			return err == nil && len(files) == n
		}, 10e9, 1e6)
	}
	first, want := ask("/v1/restore")
	require.Equal(t, "unirestorer; fwd=miss; stored", first.Header.Get("Cache-Status"))
	settled(1)
	again, got := ask("/v1/restore")
	require.Equal(t, "unirestorer; hit", again.Header.Get("Cache-Status"))
	require.Equal(t, want, got)
	for _, name := range []string{"ETag", "Content-Type", "X-Unirestorer-Route", "X-Unirestorer-Expert", "X-Unirestorer-Model", "Server-Timing", "Content-Length"} {
		require.Equal(t, first.Header.Get(name), again.Header.Get(name), name)
	}
	res, _ := ask("/v1/restore?report=json")
	require.Equal(t, "unirestorer; hit", res.Header.Get("Cache-Status"), "the report's form is no other result")
	res, _ = ask("/v1/restore?strength=0.5")
	require.Equal(t, "unirestorer; fwd=miss; stored", res.Header.Get("Cache-Status"))
	settled(2)
	res, got = ask("/v1/restore", "Cache-Control", "no-cache")
	require.Equal(t, "unirestorer; fwd=request; stored", res.Header.Get("Cache-Status"))
	require.Equal(t, want, got)
	res, _ = ask("/v1/restore?level=coarse", "Cache-Control", "no-store")
	require.Empty(t, res.Header.Get("Cache-Status"))
	settled(2)

	// A damaged file is made anew.
	path := filepath.Join(dir, first.Header.Get("ETag")[1:3], first.Header.Get("ETag")[1:33])
	require.NoError(t, os.Truncate(path, 100))
	res, got = ask("/v1/restore")
	require.Equal(t, "unirestorer; fwd=miss; stored", res.Header.Get("Cache-Status"))
	require.Equal(t, want, got)

	_, text := sendTo(t, http.DefaultClient, "GET", url+"/metrics", nil)
	require.Contains(t, string(text), "\nunirestorer_result_cache_hits_total 2\n")
	require.Eventually(t, func() bool {
		ok := s.bodies.TryAcquire(s.c.Bodies)
		if ok {
			s.bodies.Release(s.c.Bodies)
		}
		return ok
	}, 10e9, 1e6)
	_, err := New(model(t), Config{Cache: dir})
	require.ErrorIs(t, err, folders.ErrClaimed)
}

// goneWriter is a client that is gone when its answer comes.
type goneWriter struct{ *httptest.ResponseRecorder }

func (goneWriter) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestResultsAreKeptWhereTheClientIsGoneBeforeItsAnswer(t *testing.T) {
	s, url := start(t, model(t), Config{Cache: t.TempDir(), CacheBytes: 1 << 20})
	in := picture(t, 40, 24)
	ask := httptest.NewRequest("POST", url+"/v1/restore", bytes.NewReader(in))
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { _ = s.restore(goneWriter{httptest.NewRecorder()}, ask, &record{}) })
	res, _ := send(t, url+"/v1/restore", in)
	require.Equal(t, 200, res.StatusCode)
	require.Equal(t, "unirestorer; hit", res.Header.Get("Cache-Status"))
}
