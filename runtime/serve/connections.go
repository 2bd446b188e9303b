package serve

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// connections bounds how many there are at a time. For one more, the one that has been idle for longest is closed; one that has
// sent nothing yet is idle too.
type connections struct {
	mu   sync.Mutex
	idle []net.Conn // longest idle first
}

// note follows what a connection of an [http.Server] does.
func (c *connections) note(conn net.Conn, state http.ConnState) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, other := range c.idle {
		if other == conn {
			c.idle = append(c.idle[:i], c.idle[i+1:]...)
			break
		}
	}
	if state == http.StateIdle || state == http.StateNew {
		c.idle = append(c.idle, conn)
	}
}

// closeIdle closes the connection that has been idle for longest, if any is.
func (c *connections) closeIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) > 0 {
		_ = c.idle[0].Close()
		c.idle = c.idle[1:]
	}
}

// limit has a listener accept n connections at a time.
func (c *connections) limit(l net.Listener, n int) net.Listener {
	return &limited{Listener: l, places: make(chan struct{}, n), closed: make(chan struct{}), c: c}
}

type limited struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
	c      *connections
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	default:
		l.c.closeIdle()
		select {
		case l.places <- struct{}{}:
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &counted{Conn: conn, leave: sync.OnceFunc(func() { <-l.places })}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
