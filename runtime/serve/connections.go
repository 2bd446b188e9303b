package serve

import (
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// idleTimeout is how long a connection may be silent between two requests, and before the first. It is longer than clients
// keep a connection that they do not use: a request sent just when the server closes its connection has no answer.
const idleTimeout = 2 * time.Minute

// connections bounds how many there are at a time. For one more, the one that has been idle for longest is closed; one that has
// sent nothing yet is idle too.
type connections struct {
	mu   sync.Mutex
	open map[string]*counted // by the client's address
	idle []*counted          // longest idle first
}

// add has a new connection be known.
func (c *connections) add(conn *counted) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[string]*counted{}
	}
	c.open[conn.address] = conn
	c.idle = append(c.idle, conn)
}

// remove forgets a connection that is closed.
func (c *connections) remove(conn *counted) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[conn.address] == conn {
		delete(c.open, conn.address)
	}
	c.drop(conn)
}

func (c *connections) drop(conn *counted) {
	c.idle = slices.DeleteFunc(c.idle, func(o *counted) bool { return o == conn })
}

// works says whether an open connection is at work or idle.
func (c *connections) works(conn *counted, work bool) {
	c.drop(conn)
	if !work && c.open[conn.address] == conn {
		c.idle = append(c.idle, conn)
	}
}

// call counts a call that begins (1) or ends (-1) on a connection.
func (c *connections) call(conn *counted, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.calls += n
	c.works(conn, conn.calls > 0)
}

// note follows what a connection of an [http.Server] does.
func (c *connections) note(conn net.Conn, state http.ConnState) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if own, ok := conn.(*counted); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.works(own, state != http.StateIdle && state != http.StateNew)
	}
}

// closeIdle closes the connection that has been idle for longest, if any is.
func (c *connections) closeIdle() bool {
	c.mu.Lock()
	var longest *counted
	if len(c.idle) > 0 {
		longest, c.idle = c.idle[0], c.idle[1:]
	}
	c.mu.Unlock()
	if longest == nil {
		return false
	}
	_ = longest.Close()
	return true
}

// limit has a listener accept n connections at a time.
func (c *connections) limit(l net.Listener, n int) *limited {
	return &limited{Listener: l, places: make(chan struct{}, n), closed: make(chan struct{}), c: c}
}

type limited struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
	c      *connections
	// patience is how long a connection may be silent before its first byte, and grace how long what comes then may take,
	// whatever earlier deadline is set; 0 leaves deadlines as they are set.
	patience, grace time.Duration
}

func (l *limited) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if !l.place() {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	c := &counted{Conn: conn, l: l, address: conn.RemoteAddr().String(), accepted: time.Now(), leave: sync.OnceFunc(func() { <-l.places })}
	c.speaks.Store(l.patience == 0)
	l.c.add(c)
	return c, nil
}

// place takes a place as soon as there is one, or a connection that can make room; it fails when the listener is closed.
func (l *limited) place() bool {
	for {
		select {
		case <-l.closed:
			return false
		case l.places <- struct{}{}:
			return true
		default:
		}
		if l.c.closeIdle() {
			continue
		}
		select {
		case <-l.closed:
			return false
		case l.places <- struct{}{}:
			return true
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// counted is a connection that has a place.
type counted struct {
	net.Conn
	l        *limited
	address  string
	accepted time.Time
	leave    func()
	speaks   atomic.Bool // bytes have come, the first of them at the time first
	first    time.Time

	calls   int // gRPC calls under way; under the connections' lock
	in, out traffic
}

// traffic is what has passed a connection in one direction, and how many gRPC messages wait for it.
type traffic struct{ bytes, messages atomic.Int64 }

// Read grants what is behind the first byte its own time: clients keep connections that they opened in advance, and net/http
// counts from when those were accepted.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in.bytes.Add(int64(n))
	if n > 0 && !c.speaks.Load() {
		c.first = time.Now()
		c.speaks.Store(true)
		_ = c.Conn.SetReadDeadline(c.first.Add(c.l.grace))
	}
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.out.bytes.Add(int64(n))
	return n, err
}

// SetReadDeadline puts deadlines off that were counted from when the connection was accepted. Times before that mean at once.
func (c *counted) SetReadDeadline(t time.Time) error {
	if c.l.patience > 0 && t.After(c.accepted) {
		earliest := c.accepted.Add(c.l.patience)
		if c.speaks.Load() {
			earliest = c.first.Add(c.l.grace)
		}
		if t.Before(earliest) {
			t = earliest
		}
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *counted) Close() error {
	defer c.leave()
	c.l.c.remove(c)
	return c.Conn.Close()
}
