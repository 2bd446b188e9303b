package serve

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// recheck is how often files are looked at for changes, at most.
const recheck = time.Second

// watched is what a file holds, read anew when the file changes. What was read last stays where a new file is no good, and
// the log says so.
type watched[T any] struct {
	files []string
	read  func() (T, error)
	log   *slog.Logger // nil until the first reading is done

	mu      sync.Mutex
	value   T
	stamp   string
	looked  time.Time
	problem error
	told    string // the state of the files that was last complained about
}

// stamps names the present state of the files.
func (w *watched[T]) stamps() string {
	var all []string
	for _, f := range w.files {
		if info, err := os.Stat(f); err == nil {
			all = append(all, fmt.Sprint(info.Size(), info.ModTime().UnixNano()))
		}
	}
	return strings.Join(all, " ")
}

func (w *watched[T]) get() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.looked) < recheck {
		return w.value
	}
	w.looked = time.Now()
	if stamp := w.stamps(); stamp != w.stamp {
		var v T
		v, w.problem = w.read()
		w.tell(stamp)
		if w.problem == nil {
			w.value, w.stamp = v, stamp
		}
	}
	return w.value
}

// tell logs what became of changed files, once for each of their states.
func (w *watched[T]) tell(stamp string) {
	files := strings.Join(w.files, ", ")
	switch {
	case w.log == nil:
	case w.problem == nil:
		w.log.Info("read anew", "files", files)
	case w.told != "at "+stamp:
		w.log.Warn("a changed file is no good, what was read before stays", "files", files, "error", w.problem.Error())
		w.told = "at " + stamp
	}
}

func (w *watched[T]) open(log *slog.Logger) error {
	w.stamp = "unread"
	w.get()
	w.log = log
	return w.problem
}

// tokens are bearer tokens and whose they are.
type tokens struct{ watched[map[[32]byte]string] }

// openTokens reads a file of tokens, one a line, optionally after its owner's name and a blank. Lines that start with # and
// empty ones are left out.
func openTokens(path string, log *slog.Logger) (*tokens, error) {
	t := &tokens{}
	t.files = []string{path}
	t.read = func() (map[[32]byte]string, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		all := map[[32]byte]string{}
		scan := bufio.NewScanner(bytes.NewReader(text))
		for n := 1; scan.Scan(); n++ {
			line := strings.Fields(scan.Text())
			switch {
			case len(line) == 0 || strings.HasPrefix(line[0], "#"):
			case len(line) == 1:
				all[sha256.Sum256([]byte(line[0]))] = fmt.Sprintf("token %d", len(all)+1)
			case len(line) == 2:
				all[sha256.Sum256([]byte(line[1]))] = line[0]
			default:
				return nil, fmt.Errorf("tokens %s, line %d: want a token, or a name and a token", path, n)
			}
		}
		if err := scan.Err(); err != nil {
			return nil, fmt.Errorf("tokens %s: %w", path, err)
		}
		if len(all) == 0 {
			return nil, fmt.Errorf("tokens %s: no token in it", path)
		}
		return all, nil
	}
	return t, t.open(log)
}

// owner tells whose token an Authorization header has. Tokens are compared by their hashes, so that time tells nothing.
func (t *tokens) owner(header string) (string, bool) {
	kind, token, ok := strings.Cut(strings.TrimSpace(header), " ")
	if !ok || !strings.EqualFold(kind, "bearer") {
		return "", false
	}
	name, ok := t.get()[sha256.Sum256([]byte(strings.TrimSpace(token)))]
	return name, ok
}

// certificate is a TLS certificate in files.
type certificate struct{ watched[*tls.Certificate] }

func openCertificate(cert, key string, log *slog.Logger) (*certificate, error) {
	c := &certificate{}
	c.files = []string{cert, key}
	c.read = func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", cert, err)
		}
		return &pair, nil
	}
	return c, c.open(log)
}

func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get(), nil },
	}
}

var errToken = &requestError{http.StatusUnauthorized, errors.New("this server takes requests with a bearer token only")}

// open tells which paths need no token: a server's state, and the page, which asks for one.
func open(path string) bool {
	switch path {
	case "/", "/livez", "/readyz", "/v2", "/v2/health/live", "/v2/health/ready":
		return true
	}
	return strings.HasPrefix(path, "/page/")
}

// client tells who asks, for sharing evenly.
func (s *Server) client(r *http.Request) (string, error) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	if s.tokens == nil {
		return host, nil
	}
	if name, ok := s.tokens.owner(r.Header.Get("Authorization")); ok {
		return name, nil
	}
	if open(r.URL.Path) {
		return host, nil
	}
	return "", errToken
}

// forUs tells whether a request is for a name that this server goes by: pages of other names that resolve to this machine
// (DNS rebinding) must not reach it.
func (s *Server) forUs(r *http.Request) bool {
	if len(s.c.Hosts) == 0 {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return slices.Contains(s.c.Hosts, strings.ToLower(strings.Trim(host, "[]")))
}
