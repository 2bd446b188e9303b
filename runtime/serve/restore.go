package serve

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"unirestorer"
)

// apiExpert is an expert as JSON has it.
type apiExpert struct {
	Index        int      `json:"index"`
	Name         string   `json:"name"`
	Architecture string   `json:"architecture"`
	Level        string   `json:"level,omitempty"`
	Degradations []string `json:"degradations,omitempty"`
	Base         *int     `json:"base,omitempty"`
}

type apiProbability struct {
	Name        string  `json:"name"`
	Probability float64 `json:"probability"`
}

// apiRoute is a route as JSON has it.
type apiRoute struct {
	Expert       apiExpert        `json:"expert"`
	Mode         string           `json:"mode"`
	Degradation  string           `json:"degradation,omitempty"`
	Level        string           `json:"level,omitempty"`
	Degradations []apiProbability `json:"degradations,omitempty"`
	Levels       []apiProbability `json:"levels,omitempty"`
	Words        string           `json:"words"`
}

// apiResult is what is told of a restored picture.
type apiResult struct {
	Model    string             `json:"model"`
	Format   string             `json:"format"`
	Route    apiRoute           `json:"route"`
	Warnings []string           `json:"warnings,omitempty"`
	Report   unirestorer.Report `json:"report"`
}

func expertOf(e unirestorer.Expert) apiExpert {
	return apiExpert{e.Index, e.Name, e.Architecture, e.Level, e.Degradations, e.Base}
}

func routeOf(r *unirestorer.Route) apiRoute {
	probabilities := func(all []unirestorer.Probability) []apiProbability {
		var out []apiProbability
		for _, p := range all {
			out = append(out, apiProbability(p))
		}
		return out
	}
	return apiRoute{expertOf(r.Expert), string(r.Decision.Mode), r.Degradation, r.Level, probabilities(r.Degradations), probabilities(r.Levels), r.String()}
}

// choices are what a request asks for.
type choices struct {
	opts   []unirestorer.CallOption
	format string // of the result; empty for the picture's own
	report string // "", json or multipart
	key    string // equal for requests that want the same
}

// optionNames are the options of POST /v1/restore and /v1/route.
var optionNames = []string{"format", "quality", "chroma", "page", "expert", "level", "degradation", "strength", "no-guard", "tile", "overlap", "strict", "report"}

// mediaTypes are the formats of results.
var mediaTypes = map[string]string{
	"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "tiff": "image/tiff", "bmp": "image/bmp",
}

// choose reads a request's options.
func (s *Server) choose(options url.Values, rec *record) (choices, error) {
	c := choices{}
	for name, values := range options {
		if !slices.Contains(optionNames, name) {
			return c, badRequest("no option %q; there are %s", name, strings.Join(optionNames, ", "))
		}
		if len(values) > 1 && name != "degradation" {
			return c, badRequest("option %q is given %d times", name, len(values))
		}
	}
	c.report = options.Get("report")
	if !slices.Contains([]string{"", "json", "multipart"}, c.report) {
		return c, badRequest("report %q: want json or multipart", c.report)
	}
	c.format = options.Get("format")
	if c.format == "jpg" {
		c.format = "jpeg"
	}
	if c.format == "tif" {
		c.format = "tiff"
	}
	if _, ok := mediaTypes[c.format]; !ok && c.format != "" {
		return c, badRequest("format %q: want png, jpeg, webp, tiff or bmp", c.format)
	}
	c.opts = []unirestorer.CallOption{
		unirestorer.WithFormat(c.format), unirestorer.WithMaxPixels(s.c.MaxPixels),
		unirestorer.WithClient(rec.client), unirestorer.WithPriority(rec.priority),
		unirestorer.WithPage(options.Get("page")), unirestorer.WithExpertNamed(options.Get("expert")),
		unirestorer.WithLevel(options.Get("level")), unirestorer.WithDegradation(slices.DeleteFunc(slices.Clone(options["degradation"]), func(s string) bool { return s == "" })...),
	}
	if v := options.Get("chroma"); v != "" {
		c.opts = append(c.opts, unirestorer.WithChroma(v))
	}
	numbers, err := numberOptions(options)
	if err != nil {
		return c, err
	}
	c.opts = append(c.opts, numbers...)
	wanted := url.Values{}
	for name, values := range options {
		if name != "report" {
			wanted[name] = values
		}
	}
	wanted.Set("format", c.format)
	c.key = wanted.Encode()
	return c, s.r.Check(c.opts...)
}

// numberOptions reads the options that are numbers or truth values.
func numberOptions(options url.Values) (opts []unirestorer.CallOption, err error) {
	for _, n := range []struct {
		name string
		opt  func(int) unirestorer.CallOption
	}{{"quality", unirestorer.WithQuality}, {"tile", unirestorer.WithTile}, {"overlap", unirestorer.WithOverlap}} {
		v := options.Get(n.name)
		switch {
		case v == "":
			continue
		case n.name == "tile" && v == "off":
			opts = append(opts, unirestorer.WithoutTiles())
			continue
		case n.name == "tile" && v == "auto":
			continue
		}
		i, err := strconv.Atoi(v)
		if err != nil {
			return nil, badRequest("%s %q: want a number", n.name, v)
		}
		opts = append(opts, n.opt(i))
	}
	if v := options.Get("strength"); v != "" {
		share, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return nil, badRequest("strength %q: want a number from 0 to 1", v)
		}
		opts = append(opts, unirestorer.WithStrength(share))
	}
	for name, opt := range map[string]func() unirestorer.CallOption{"strict": unirestorer.WithStrict, "no-guard": unirestorer.WithoutGuard} {
		v := options.Get(name)
		if v == "" {
			continue
		}
		on, err := strconv.ParseBool(v)
		if err != nil {
			return nil, badRequest("%s %q: want true or false", name, v)
		}
		if on {
			opts = append(opts, opt())
		}
	}
	return opts, nil
}

// query is a request's query; what of it cannot be read is told, rather than left out.
func query(r *http.Request) (url.Values, error) {
	options, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("query: %w", err)
	}
	return options, nil
}

// accept reads what an Accept header wants where the options do not say.
func accept(header string, options url.Values) error {
	best, bestQ := "", 0.0
	for field := range strings.SplitSeq(header, ",") {
		kind, params, err := mime.ParseMediaType(strings.TrimSpace(field))
		if err != nil {
			continue
		}
		q := 1.0
		if v, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(v, 64); err != nil {
				continue
			}
		}
		if q > bestQ && (kind == "*/*" || kind == "image/*" || acceptable(kind) != nil) {
			best, bestQ = kind, q
		}
	}
	switch {
	case header == "" || best == "*/*" || best == "image/*":
		return nil
	case best == "":
		if options.Has("format") || options.Has("report") {
			return nil
		}
		return &requestError{http.StatusNotAcceptable, fmt.Errorf("no answer is acceptable by %q: there are PNG, JPEG, WebP, TIFF, BMP, JSON and multipart/mixed", header)}
	}
	for name, value := range acceptable(best) {
		if !options.Has(name) {
			options.Set(name, value)
		}
	}
	return nil
}

// acceptable is the option that a media type stands for, nil for what is not made.
func acceptable(kind string) map[string]string {
	for format, t := range mediaTypes {
		if t == kind {
			return map[string]string{"format": format}
		}
	}
	switch kind {
	case "application/json":
		return map[string]string{"report": "json"}
	case "multipart/mixed":
		return map[string]string{"report": "multipart"}
	}
	return nil
}

// restored is a result, made or found.
type restored struct {
	body   *body
	result apiResult
	found  bool
}

func (s *Server) restore(w http.ResponseWriter, r *http.Request, rec *record) error {
	ctx := r.Context()
	options, err := query(r)
	if err != nil {
		return err
	}
	if err := accept(r.Header.Get("Accept"), options); err != nil {
		return err
	}
	if _, err := s.choose(options, rec); err != nil { // before a long body is read
		return err
	}
	in, err := s.read(ctx, w, r, options)
	if err != nil {
		return err
	}
	defer func() { in.release() }()
	c, err := s.choose(options, rec)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(in.Bytes())
	key := s.keyOf(c, sum)
	h := w.Header()
	h.Set("ETag", `"`+key+`"`)
	h.Set("Cache-Control", "private, no-cache")
	if matches(r.Header.Get("If-None-Match"), key) {
		rec.status = http.StatusPreconditionFailed
		w.WriteHeader(http.StatusPreconditionFailed)
		return nil
	}
	use := s.cacheUse(r)
	res := s.found(in, key, use, rec)
	if res == nil {
		if res, err = s.make(ctx, in, c, rec); err != nil {
			return err
		}
	}
	defer res.body.release()
	if use.any() {
		h.Set("Cache-Status", res.cacheStatus(use))
	}
	out := s.steadyWriter(w)
	res.headers(h)
	switch c.report {
	case "json":
		err = res.json(w, out)
	case "multipart":
		err = res.multipart(w, out)
	default:
		h.Set("Content-Type", mediaTypes[res.result.Format])
		h.Set("Content-Length", strconv.Itoa(res.body.Len()))
		_, err = out.Write(res.body.Bytes())
	}
	if err == nil {
		out.done()
	}
	if use.write && !res.found {
		_ = http.NewResponseController(w).Flush() // the client need not wait for the disk
		s.keep(ctx, key, res)                     // also where it is gone: it may have all of it, or ask again
	}
	if err != nil {
		rec.err = fmt.Errorf("write the answer: %w", err)
		rec.status = statusClientGone
		panic(http.ErrAbortHandler) // the answer must not look whole, and the deadline stays for what is left of it
	}
	out.done()
	return nil
}

// make restores a picture and takes its place among the bodies with the result.
func (s *Server) make(ctx context.Context, in *body, c choices, rec *record) (*restored, error) {
	var out bytes.Buffer
	var result *unirestorer.Result
	err := s.work(ctx, rec, func(ctx context.Context) (err error) {
		src := in.Buffer
		result, err = s.r.RestoreStream(ctx, &src, &out, c.opts...)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.done(rec, result)
	res := &restored{result: apiResult{s.r.Model(), formatOf(out.Bytes()), routeOf(result.Route), result.Warnings, result.Report}}
	res.body, err = in.result(ctx, &out)
	return res, err
}

// formatOf tells the format of what was written, of the five that are.
func formatOf(data []byte) string {
	for format, magic := range map[string]string{"png": "\x89PNG", "jpeg": "\xff\xd8", "webp": "RIFF", "bmp": "BM"} {
		if bytes.HasPrefix(data, []byte(magic)) {
			return format
		}
	}
	return "tiff"
}

// keyOf names a result by all that it depends on.
func (s *Server) keyOf(c choices, picture [sha256.Size]byte) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%x", s.fingerprint, c.key, picture))
	return hex.EncodeToString(sum[:16])
}

// matches tells whether an If-None-Match header has the tag.
func matches(header, key string) bool {
	for tag := range strings.SplitSeq(header, ",") {
		if strings.Trim(strings.TrimPrefix(strings.TrimSpace(tag), "W/"), `"`) == key {
			return true
		}
	}
	return false
}

// headers tell of a result.
func (res *restored) headers(h http.Header) {
	r, t := &res.result, res.result.Report.Times
	h.Set("X-Unirestorer-Model", plain(r.Model))
	h.Set("X-Unirestorer-Expert", plain(r.Route.Expert.Name))
	h.Set("X-Unirestorer-Route", plain(r.Route.Words))
	if r.Route.Degradation != "" {
		h.Set("X-Unirestorer-Degradation", plain(r.Route.Degradation))
		h.Set("X-Unirestorer-Level", plain(r.Route.Level))
	}
	for _, warning := range r.Warnings {
		h.Add("X-Unirestorer-Warning", plain(warning))
	}
	var stages []string
	for _, stage := range stagesOf(t) {
		stages = append(stages, fmt.Sprintf("%s;dur=%.3f", stage.name, float64(stage.took)/float64(time.Millisecond)))
	}
	h.Set("Server-Timing", strings.Join(stages, ", "))
}

// step is one of restoring a picture.
type step struct {
	name string
	took time.Duration
}

func stagesOf(t unirestorer.Stages) []step {
	return []step{{"decode", t.Decode}, {"estimate", t.Estimate}, {"load", t.Load}, {"run", t.Run}, {"encode", t.Encode}}
}

// plain is text as headers may have it: what is not ASCII as Go escapes it.
func plain(s string) string {
	q := strconv.QuoteToASCII(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// json answers with one JSON object that has the picture in base64.
func (res *restored) json(w http.ResponseWriter, out io.Writer) error {
	text, err := json.Marshal(res.result)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := io.WriteString(out, `{"image":"`); err != nil {
		return err
	}
	picture := base64.NewEncoder(base64.StdEncoding, out)
	if _, err := picture.Write(res.body.Bytes()); err != nil {
		return err
	}
	if err := picture.Close(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "\",%s\n", text[1:])
	return err
}

// multipart answers with the report and the picture.
func (res *restored) multipart(w http.ResponseWriter, out io.Writer) error {
	text, err := json.Marshal(res.result)
	if err != nil {
		return err
	}
	parts := multipart.NewWriter(out)
	w.Header().Set("Content-Type", "multipart/mixed; boundary="+parts.Boundary())
	for _, p := range []struct {
		kind string
		data []byte
	}{{"application/json", text}, {mediaTypes[res.result.Format], res.body.Bytes()}} {
		part, err := parts.CreatePart(textproto.MIMEHeader{"Content-Type": {p.kind}})
		if err != nil {
			return err
		}
		if _, err := part.Write(p.data); err != nil {
			return err
		}
	}
	return parts.Close()
}

func (s *Server) route(w http.ResponseWriter, r *http.Request, rec *record) error {
	options, err := query(r)
	if err != nil {
		return err
	}
	in, err := s.read(r.Context(), w, r, options)
	if err != nil {
		return err
	}
	defer in.release()
	c, err := s.choose(options, rec)
	if err != nil {
		return err
	}
	var route *unirestorer.Route
	err = s.work(r.Context(), rec, func(ctx context.Context) (err error) {
		src := in.Buffer
		route, err = s.r.RouteStream(ctx, &src, c.opts...)
		return err
	})
	if err != nil {
		return err
	}
	rec.expert = route.Expert.Name
	writeJSON(w, http.StatusOK, routeOf(route))
	return nil
}

func (s *Server) listExperts(w http.ResponseWriter, _ *http.Request, _ *record) error {
	all := make([]apiExpert, len(s.experts))
	for i, e := range s.experts {
		all[i] = expertOf(e)
	}
	writeJSON(w, http.StatusOK, map[string]any{"model": s.r.Model(), "device": s.r.Device(), "experts": all})
	return nil
}
