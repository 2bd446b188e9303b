package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"

	"github.com/dustin/go-humanize"

	"unirestorer"
	"unirestorer/runtime/queue"
)

// Errors of requests that were not worked on.
var (
	errNoTime = errors.New("the queue is longer than the request's deadline")
	errBusy   = errors.New("requests under way take all the memory that there is for bodies")
	errSlow   = errors.New("the client was too slow")
)

// requestError is a request that makes no sense.
type requestError struct {
	status int
	err    error
}

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

func badRequest(format string, args ...any) error {
	return &requestError{http.StatusBadRequest, fmt.Errorf(format, args...)}
}

// statusClientGone is what a request whose client is gone is called.
const statusClientGone = 499

// statusOf tells an error in HTTP's terms.
func statusOf(err error) int {
	var (
		request *requestError
		option  *unirestorer.OptionError
		picture *unirestorer.PictureError
		tooMuch *http.MaxBytesError
	)
	switch {
	case errors.As(err, &request):
		return request.status
	case errors.Is(err, unirestorer.ErrCrowded):
		return http.StatusServiceUnavailable
	case errors.As(err, &tooMuch), errors.Is(err, unirestorer.ErrTooLarge), errors.Is(err, unirestorer.ErrMemory):
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &option):
		return http.StatusBadRequest
	case errors.Is(err, unirestorer.ErrFormat):
		return http.StatusUnsupportedMediaType
	case errors.Is(err, queue.ErrFull):
		return http.StatusTooManyRequests
	case errors.Is(err, errNoTime), errors.Is(err, errBusy), errors.Is(err, unirestorer.ErrClosed), errors.Is(err, unirestorer.ErrUnavailable):
		return http.StatusServiceUnavailable
	case errors.Is(err, errSlow), errors.Is(err, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	case errors.Is(err, context.Canceled):
		return statusClientGone
	case errors.As(err, &picture):
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}

// says is an error in words for the client; what went wrong inside stays inside.
func says(err error, status int) string {
	var tooMuch *http.MaxBytesError
	if errors.As(err, &tooMuch) {
		return fmt.Sprintf("the body is too large: %s are taken", humanize.IBytes(uint64(tooMuch.Limit)))
	}
	switch status {
	case http.StatusInternalServerError:
		return "the picture could not be restored; the server's log says why"
	case http.StatusServiceUnavailable:
		if errors.Is(err, unirestorer.ErrCrowded) {
			return "other processes have the device's memory; the server's log says which"
		}
		if errors.Is(err, unirestorer.ErrUnavailable) {
			return "no device is left that works; the server's log says why"
		}
	case statusClientGone: // or has closed its side, which HTTP/1.1 cannot tell from that
		return "the client closed the connection before the picture was restored"
	case http.StatusGatewayTimeout:
		return "the deadline was over before the picture was restored"
	}
	return err.Error()
}

// problem is an error as RFC 9457 has it.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// fail answers with an error.
func (s *Server) fail(w http.ResponseWriter, rec *record, err error) {
	status := statusOf(err)
	rec.err = err
	s.refuseHeaders(w, status)
	if rec.oip {
		writeJSON(w, status, map[string]string{"error": says(err, status)})
		return
	}
	title := http.StatusText(status)
	if status == statusClientGone {
		title = "Client Closed Request"
	}
	text, _ := json.Marshal(problem{title, status, says(err, status)}) // strings and a number
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // whoever does not read it is gone
}

// refuseHeaders says when to come again.
func (s *Server) refuseHeaders(w http.ResponseWriter, status int) {
	h := w.Header()
	for _, name := range []string{"ETag", "Cache-Control"} {
		h.Del(name)
	}
	switch status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", strconv.Itoa(s.retryAfter()))
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="unirestorer"`)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil { // nothing that is answered holds what JSON cannot
		status, text = http.StatusInternalServerError, []byte(`{}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}
