package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
)

// cacheUse is what a request may have of the kept results: Cache-Control's no-cache has a result made anew, no-store also
// has it not kept.
type cacheUse struct{ read, write bool }

func (u cacheUse) any() bool { return u.read || u.write }

func (s *Server) cacheUse(r *http.Request) cacheUse {
	if s.results == nil {
		return cacheUse{}
	}
	u := cacheUse{true, true}
	for directive := range strings.SplitSeq(strings.Join(r.Header.Values("Cache-Control"), ","), ",") {
		switch strings.ToLower(strings.TrimSpace(directive)) {
		case "no-cache", "max-age=0":
			u.read = false
		case "no-store":
			u = cacheUse{}
			return u
		}
	}
	return u
}

// found is a result that was kept, in the place of the request's body; nil where there is none, or no room beside the body.
func (s *Server) found(in *body, key string, use cacheUse, rec *record) *restored {
	if !use.read {
		return nil
	}
	size, _ := s.results.Size(key)
	if !s.bodies.TryAcquire(size) {
		return nil
	}
	held := &body{s: s, held: size}
	res := &restored{body: held, found: true}
	about, data, ok := s.results.Get(key)
	if !ok || json.Unmarshal(about, &res.result) != nil {
		held.release()
		return nil
	}
	held.Buffer = *bytes.NewBuffer(data)
	in.release()
	rec.expert = res.result.Route.Expert.Name
	return res
}

// keep has a result found by later requests.
func (s *Server) keep(ctx context.Context, key string, res *restored) {
	about, err := json.Marshal(res.result)
	if err == nil {
		err = s.results.Put(context.WithoutCancel(ctx), key, about, res.body.Bytes())
	}
	if err != nil {
		s.c.Log.Warn("a result could not be kept", "error", err.Error())
	}
}

// cacheStatus tells whether a result was found (RFC 9211).
func (res *restored) cacheStatus(use cacheUse) string {
	switch {
	case res.found:
		return "unirestorer; hit"
	case !use.read:
		return "unirestorer; fwd=request; stored"
	}
	return "unirestorer; fwd=miss; stored"
}
