package serve

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"
)

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// TestAnswersAreAsTheDocumentSays holds real answers against the served document.
func TestAnswersAreAsTheDocumentSays(t *testing.T) {
	_, url := start(t, model(t), Config{MaxBody: 1 << 16})
	_, text := sendTo(t, http.DefaultClient, "GET", url+"/openapi.json", nil)
	doc, err := openapi3.NewLoader().LoadFromData(text)
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context()))
	doc.Servers = openapi3.Servers{{URL: url}}
	router, err := gorillamux.NewRouter(doc)
	require.NoError(t, err)
	in := picture(t, 24, 16)
	for _, kind := range []string{"image/png", "image/jpeg", "image/webp", "image/tiff", "image/bmp", "multipart/mixed"} {
		openapi3filter.RegisterBodyDecoder(kind, openapi3filter.FileBodyDecoder)
		defer openapi3filter.UnregisterBodyDecoder(kind)
	}
	for _, c := range []struct {
		method, path string
		body         []byte
		header       [2]string
		status       int
	}{
		{"GET", "/livez", nil, [2]string{}, 200},
		{"GET", "/readyz", nil, [2]string{}, 200},
		{"GET", "/openapi.json", nil, [2]string{}, 200},
		{"GET", "/v1/experts", nil, [2]string{}, 200},
		{"POST", "/v1/route", in, [2]string{}, 200},
		{"POST", "/v1/route", []byte("no picture"), [2]string{}, 415},
		{"POST", "/v1/restore", in, [2]string{}, 200},
		{"POST", "/v1/restore?format=jpeg&quality=80&chroma=420", in, [2]string{}, 200},
		{"POST", "/v1/restore?report=json&degradation=rain&degradation=haze&strength=0.5&no-guard=true", in, [2]string{}, 200},
		{"POST", "/v1/restore?report=multipart&level=coarse&tile=64&overlap=8&strict=true&page=1", in, [2]string{}, 200},
		{"POST", "/v1/restore?format=webp&expert=0", in, [2]string{}, 200},
		{"POST", "/v1/restore", in, [2]string{"Accept", "image/tiff"}, 200},
		{"POST", "/v1/restore", in, [2]string{"Accept", "image/avif"}, 406},
		{"POST", "/v1/restore?quality=x", in, [2]string{}, 400},
		{"POST", "/v1/restore", in[:50], [2]string{}, 422},
		{"POST", "/v1/restore", make([]byte, 1<<17), [2]string{}, 413},
	} {
		req, err := http.NewRequest(c.method, url+c.path, bytes.NewReader(c.body))
		require.NoError(t, err)
		if c.body != nil {
			req.Header.Set("Content-Type", "application/octet-stream")
		}
		if c.header[0] != "" {
			req.Header.Set(c.header[0], c.header[1])
		}
		route, params, err := router.FindRoute(req)
		require.NoError(t, err, c.path)
		options := &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, ExcludeRequestBody: true}
		asked := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route, Options: options}
		if c.status == 200 {
			require.NoError(t, openapi3filter.ValidateRequest(context.Background(), asked), c.path)
		}
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, c.status, res.StatusCode, "%s: %s", c.path, body)
		require.NoError(t, openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
			RequestValidationInput: asked, Status: res.StatusCode, Header: res.Header, Body: io.NopCloser(bytes.NewReader(body)), Options: options,
		}), "%s: %s", c.path, body[:min(len(body), 300)])
	}
}
