//go:build unix

package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"unirestorer"
)

// A test's helpers are processes of the test's own binary: roleVar says what one is, argsVar how.
const (
	roleVar = "UNIRESTORER_JOBS_TEST_ROLE"
	argsVar = "UNIRESTORER_JOBS_TEST_ARGS"
)

// roleArgs are what a process is told.
type roleArgs struct {
	URL    string   `json:"url"`
	Name   string   `json:"name"`
	Limits Limits   `json:"limits"`
	Inputs []string `json:"inputs,omitempty"`
	To     string   `json:"to,omitempty"`
	// Of a node of the cluster.
	Client, Route int
	Routes        []string
	Store         string
}

func TestMain(m *testing.M) {
	role := os.Getenv(roleVar)
	if role == "" {
		os.Exit(m.Run())
	}
	var a roleArgs
	err := json.Unmarshal([]byte(os.Getenv(argsVar)), &a)
	if err == nil {
		err = map[string]func(context.Context, roleArgs) error{"node": nodeRole, "worker": workerRole, "host": hostRole, "submitter": submitterRole}[role](context.Background(), a)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, role, a.Name, err)
		os.Exit(1)
	}
}

// nodeRole is a NATS server of a cluster.
func nodeRole(_ context.Context, a roleArgs) error {
	o := &server.Options{ServerName: a.Name, Host: "127.0.0.1", Port: a.Client, JetStream: true, StoreDir: a.Store, NoSigs: true}
	if len(a.Routes) > 0 {
		o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: a.Route}
	}
	for _, r := range a.Routes {
		u, err := url.Parse(r)
		if err != nil {
			return err
		}
		o.Routes = append(o.Routes, u)
	}
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	s.Start()
	s.WaitForShutdown()
	return nil
}

func testRestorer(ctx context.Context) (*unirestorer.Restorer, error) {
	return unirestorer.Open(ctx, unirestorer.WithThreads(1), unirestorer.WithMemory(512<<20))
}

func workerRole(ctx context.Context, a roleArgs) error {
	r, err := testRestorer(ctx)
	if err != nil {
		return err
	}
	q, err := Connect(ctx, Access{URL: a.URL, Name: a.Name, Patience: time.Minute}, a.Limits)
	if err != nil {
		return err
	}
	return a.work(ctx, q, r)
}

func (a *roleArgs) work(ctx context.Context, q *Queue, r *unirestorer.Restorer) error {
	w := &Worker{Queue: q, Restorer: r, Name: a.Name, Watchdog: 20 * time.Second, Sweep: time.Second, Log: a.logger()}
	return w.Run(ctx)
}

func (a *roleArgs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, nil)).With("who", a.Name)
}

// hostRole is a worker that keeps the server of its machine.
func hostRole(ctx context.Context, a roleArgs) error {
	r, err := testRestorer(ctx)
	if err != nil {
		return err
	}
	h := &Host{At: a.URL, Store: a.Store, Log: a.logger()}
	q, err := h.Connect(ctx, Access{Name: a.Name}, a.Limits)
	if err != nil {
		return err
	}
	return a.work(ctx, q, r)
}

func submitterRole(ctx context.Context, a roleArgs) error {
	r, err := unirestorer.Open(ctx, unirestorer.WithLazyEstimator())
	if err != nil {
		return err
	}
	q, err := Connect(ctx, Access{URL: a.URL, Name: a.Name, Patience: time.Minute}, a.Limits)
	if err != nil {
		return err
	}
	res, err := q.Submit(ctx, Submission{Inputs: a.Inputs, To: a.To, Model: r.ModelDigest()})
	if err == nil && len(res.Errors) > 0 {
		err = fmt.Errorf("%s", strings.Join(res.Errors, "; "))
	}
	return err
}

// process is a helper at work.
type process struct {
	*exec.Cmd
	role string
	args roleArgs
	log  string
}

// start runs a helper; it is killed when the test ends.
func start(t *testing.T, role string, a roleArgs, log string) *process {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	text, err := json.Marshal(a)
	require.NoError(t, err)
	p := &process{exec.Command(exe), role, a, log}
	p.Env = append(os.Environ(), roleVar+"="+role, argsVar+"="+string(text))
	f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	require.NoError(t, err)
	defer f.Close()
	p.Stderr = io.Writer(f)
	require.NoError(t, p.Start())
	t.Cleanup(p.kill)
	return p
}

// end waits for a process to end by itself; one that is late is made to say where it hangs.
func (p *process) end(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = p.Process.Signal(syscall.SIGQUIT) })
	defer stop()
	return p.Wait()
}

func (p *process) kill() {
	_ = p.Process.Signal(syscall.SIGCONT)
	_ = p.Process.Kill()
	_ = p.Wait()
}

// freePorts are ports that nobody listens on at present, below those that systems give to connections: a server that is
// started again finds its own still free.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)))
		if err != nil {
			continue
		}
		defer l.Close()
		if ports = append(ports, l.Addr().(*net.TCPAddr).Port); len(ports) == n {
			return ports
		}
	}
	t.Fatal("no free ports")
	return nil
}

// cluster starts three servers.
func cluster(t *testing.T, dir string) (nodes []*process, urls string) {
	t.Helper()
	p := freePorts(t, 6)
	var all []string
	for i := range 3 {
		all = append(all, fmt.Sprintf("nats://127.0.0.1:%d", p[i]))
	}
	for i := range 3 {
		a := roleArgs{Name: fmt.Sprintf("n%d", i), Client: p[i], Route: p[3+i], Store: filepath.Join(dir, fmt.Sprintf("n%d", i))}
		for k := range 3 {
			a.Routes = append(a.Routes, fmt.Sprintf("nats://127.0.0.1:%d", p[3+k]))
		}
		nodes = append(nodes, start(t, "node", a, filepath.Join(dir, a.Name+".log")))
	}
	return nodes, strings.Join(all, ",")
}
