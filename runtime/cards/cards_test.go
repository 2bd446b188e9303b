package cards

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// made is a worker that a test makes up.
type made struct {
	do     func(ctx context.Context, job string) (string, error)
	killed chan struct{}
	once   sync.Once
}

func (m *made) Do(ctx context.Context, job Job, under Under) (Reply, error) {
	type out struct {
		s   string
		err error
	}
	done := make(chan out, 1)
	go func() {
		s, err := m.do(ctx, strings.Trim(string(job.Spec), `"`))
		done <- out{s, err}
	}()
	select {
	case o := <-done:
		reply, _ := json.Marshal(o.s)
		return Reply{Spec: reply}, o.err
	case <-m.killed:
		return Reply{}, fmt.Errorf("%w: killed", ErrBroken)
	}
}
func (m *made) Kill()        { m.once.Do(func() { close(m.killed) }) }
func (m *made) Close() error { return nil }

// cardOf is a card whose workers do jobs with do.
func cardOf(name string, do func(ctx context.Context, job string) (string, error)) Card {
	return Card{Name: name, Start: func(context.Context) (Worker, error) {
		return &made{do: do, killed: make(chan struct{})}, nil
	}}
}

func spec(s string) Job { return Job{Spec: json.RawMessage(`"` + s + `"`)} }

// all does n jobs at the same time and returns replies and errors.
func all(p *Pool, n int) (replies []string, errs []error) {
	replies, errs = make([]string, n), make([]error, n)
	var jobs sync.WaitGroup
	for i := range n {
		jobs.Go(func() {
			reply, err := p.Do(context.Background(), spec(fmt.Sprint(i)), nil)
			replies[i], errs[i] = strings.Trim(string(reply.Spec), `"`), err
		})
	}
	jobs.Wait()
	return replies, errs
}

func quick(events *[]Event, mu *sync.Mutex) Options {
	return Options{Backoff: time.Millisecond, MostBackoff: 4 * time.Millisecond, Watchdog: 100 * time.Millisecond, Event: func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		*events = append(*events, e)
	}}
}

func open(t *testing.T, cards []Card, opt Options) *Pool {
	p, err := New(cards, opt)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close(context.Background())) })
	return p
}

func fine(took time.Duration) func(context.Context, string) (string, error) {
	return func(_ context.Context, job string) (string, error) {
		time.Sleep(took)
		return job, nil
	}
}

func TestEveryJobIsDoneOnce(t *testing.T) {
	var done atomic.Int64
	count := func(_ context.Context, job string) (string, error) { done.Add(1); return job, nil }
	p := open(t, []Card{cardOf("a", count), cardOf("b", count), cardOf("c", count)}, Options{})
	replies, errs := all(p, 200)
	for i := range replies {
		require.NoError(t, errs[i])
		require.Equal(t, fmt.Sprint(i), replies[i])
	}
	require.EqualValues(t, 200, done.Load())
}

func TestCardsOfUnlikeSpeedShareByTime(t *testing.T) {
	p := open(t, []Card{cardOf("fast", fine(2*time.Millisecond)), cardOf("slow", fine(150*time.Millisecond))}, Options{InFlight: 1})
	_, errs := all(p, 60)
	require.NoError(t, errors.Join(errs...))
	s := p.States()
	require.Greater(t, s[0].Done, 3*s[1].Done, "%+v", s)
	require.Positive(t, s[1].Done)
}

func TestSlowCardLeavesTheLastJobsToTheFastOne(t *testing.T) {
	c := &card{pool: &Pool{opt: Options{InFlight: 1}.withDefaults()}, measure: time.Second}
	last := &task{}
	c.pool.opt.InFlight = 1
	fast := &card{pool: c.pool, up: true, measure: 10 * time.Millisecond, busy: map[*task]time.Time{}}
	c.pool.cards = []*card{c, fast}
	c.pool.queue = make([]*task, 3)
	require.True(t, c.tooSlow(last), "three jobs take the fast one 30 ms")
	c.pool.queue = make([]*task, 300)
	require.False(t, c.tooSlow(last), "there is work for both")
	c.pool.queue = make([]*task, 3)
	fast.up = false
	require.False(t, c.tooSlow(last), "the fast one has failed")
}

// A card fails in the middle: its jobs are done elsewhere, and it comes back.
func TestFailedCardComesBack(t *testing.T) {
	var events []Event
	var mu sync.Mutex
	var jobs atomic.Int64
	bad := func(_ context.Context, job string) (string, error) {
		if jobs.Add(1) == 3 {
			return "", fmt.Errorf("%w: CUDA_ERROR_ILLEGAL_ADDRESS", ErrBroken)
		}
		time.Sleep(time.Millisecond)
		return job, nil
	}
	p := open(t, []Card{cardOf("good", fine(time.Millisecond)), cardOf("bad", bad)}, quick(&events, &mu))
	replies, errs := all(p, 60)
	require.NoError(t, errors.Join(errs...))
	require.Equal(t, "59", replies[59])
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, events, 1)
	require.Contains(t, events[0].String(), "bad failed: worker broken: CUDA_ERROR_ILLEGAL_ADDRESS; its")
	require.Contains(t, events[0].String(), "started anew in 1ms")
	require.Greater(t, p.States()[1].Done, 3)
}

func TestCardThatKeepsFailingIsTakenOut(t *testing.T) {
	var events []Event
	var mu sync.Mutex
	lost := Card{Name: "lost", Start: func(context.Context) (Worker, error) { return nil, errors.New("no such card") }}
	p := open(t, []Card{cardOf("good", fine(time.Millisecond)), lost}, quick(&events, &mu))
	for range 5 {
		_, errs := all(p, 20)
		require.NoError(t, errors.Join(errs...))
		time.Sleep(5 * time.Millisecond)
	}
	s := p.States()
	require.True(t, s[1].Out)
	require.Equal(t, 4, s[1].Failures)
	require.Contains(t, s[1].Err, "no such card")
	mu.Lock()
	defer mu.Unlock()
	require.Contains(t, events[len(events)-1].String(), "lost is taken out: start: no such card")
	require.Equal(t, 4*time.Millisecond, events[2].Restart, "the pause doubles")
}

func TestHungCardIsEndedByTheWatchdog(t *testing.T) {
	var events []Event
	var mu sync.Mutex
	var jobs atomic.Int64
	hang := func(ctx context.Context, job string) (string, error) {
		if jobs.Add(1) == 2 {
			select {} // whatever its context says
		}
		return job, nil
	}
	p := open(t, []Card{cardOf("good", fine(time.Millisecond)), cardOf("hung", hang)}, quick(&events, &mu))
	_, errs := all(p, 40)
	require.NoError(t, errors.Join(errs...))
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, events, 1)
	require.Contains(t, events[0].String(), "no progress for 100ms: a kernel hangs")
}

// Callers that give up sooner than the watchdog must not hide a card that hangs.
func TestHungCardIsFoundThoughItsCallersGiveUp(t *testing.T) {
	var events []Event
	var mu sync.Mutex
	var jobs atomic.Int64
	p := open(t, []Card{cardOf("hung", func(_ context.Context, job string) (string, error) {
		if jobs.Add(1) <= 2 {
			select {} // whatever its context says
		}
		return job, nil
	})}, quick(&events, &mu))
	for range 2 {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
		_, err := p.Do(ctx, spec("x"), nil)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	_, err := p.Do(context.Background(), spec("y"), nil)
	require.NoError(t, err)
	mu.Lock()
	defer mu.Unlock()
	require.NotEmpty(t, events)
	require.Contains(t, events[0].String(), "a kernel hangs")
}

// A job may wait for longer than the watchdog while others of its worker get on.
func TestJobsThatWaitTheirTurnAreNoHang(t *testing.T) {
	var events []Event
	var mu, turn sync.Mutex
	opt := quick(&events, &mu)
	opt.InFlight, opt.Watchdog = 8, time.Second
	p := open(t, []Card{cardOf("a", func(_ context.Context, job string) (string, error) {
		turn.Lock()
		defer turn.Unlock()
		time.Sleep(150 * time.Millisecond)
		return job, nil
	})}, opt)
	_, errs := all(p, 8)
	require.NoError(t, errors.Join(errs...))
	require.Zero(t, p.States()[0].Failures)
}

func TestCardThatDoesNotStartIsTold(t *testing.T) {
	var events []Event
	var mu sync.Mutex
	opt := quick(&events, &mu)
	opt.Startup = 10 * time.Millisecond
	slow := Card{Name: "slow", Start: func(ctx context.Context) (Worker, error) { <-ctx.Done(); return nil, context.Cause(ctx) }}
	p := open(t, []Card{slow}, opt)
	_, err := p.Do(context.Background(), spec("x"), nil)
	require.ErrorIs(t, err, ErrNoCards)
	require.ErrorContains(t, err, "start: not ready after 10ms")
}

// A process that waits inside a driver cannot be ended: its jobs go elsewhere all the same.
func TestProcessThatDoesNotEndIsLeftBehind(t *testing.T) {
	w := startChild(t).(*process)
	kill := w.kill
	w.kill, w.patience = func() error { return nil }, 10*time.Millisecond
	defer func() { require.NoError(t, kill()) }()
	answer := make(chan error, 1)
	go func() {
		_, err := w.Do(context.Background(), spec("hang"), Under{Progress: func(float64) { w.Kill() }})
		answer <- err
	}()
	err := <-answer
	require.ErrorIs(t, err, ErrBroken)
	require.ErrorContains(t, err, "does not end, though it was killed")
}

// A job that no card has the memory for at present goes round until one has, or nobody waits any more.
func TestJobGoesRoundWhileCardsAreCrowded(t *testing.T) {
	var tries atomic.Int64
	crowded := func(_ context.Context, job string) (string, error) {
		if job == "never" || tries.Add(1) < 8 {
			time.Sleep(time.Millisecond)
			return "", &JobError{"42 (python3) has it", []string{KindNoRoom, KindCrowded}}
		}
		return job, nil
	}
	p := open(t, []Card{cardOf("a", crowded), cardOf("b", crowded)}, Options{})
	_, err := p.Do(context.Background(), spec("x"), nil)
	require.NoError(t, err)
	require.EqualValues(t, 8, tries.Load())
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err = p.Do(ctx, spec("never"), nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "42 (python3) has it")

	p = open(t, []Card{cardOf("a", crowded), cardOf("b", crowded)}, Options{Patience: 10 * time.Millisecond})
	_, err = p.Do(context.Background(), spec("never"), nil)
	require.EqualError(t, err, "42 (python3) has it")
}

func TestWhyACardWaitsIsTold(t *testing.T) {
	var events []Event
	var mu sync.Mutex
	p := open(t, []Card{{Name: "full", Start: func(ctx context.Context) (Worker, error) { return StartProcess(ctx, child()) }}}, Options{Event: quick(&events, &mu).Event})
	for range 2 {
		_, err := p.Do(context.Background(), spec("starve"), nil)
		require.NoError(t, err)
	}
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, events, 1, "not again at once")
	require.Equal(t, "full waits: 42 (python3) has it", events[0].String())
}

// A picture that breaks every worker must not take the cards with it, nor the pictures beside it.
func TestJobThatBreaksWorkersFailsItself(t *testing.T) {
	var events []Event
	var mu sync.Mutex
	poison := func(_ context.Context, job string) (string, error) {
		if job == "7" {
			return "", fmt.Errorf("%w: CUDA_ERROR_ILLEGAL_ADDRESS", ErrBroken)
		}
		time.Sleep(time.Millisecond)
		return job, nil
	}
	opt := quick(&events, &mu)
	opt.InFlight = 4
	p := open(t, []Card{cardOf("a", poison), cardOf("b", poison)}, opt)
	_, errs := all(p, 60)
	for i, err := range errs {
		if i == 7 {
			require.ErrorContains(t, err, "3 workers broke at it, the last on")
			continue
		}
		require.NoError(t, err, i)
	}
	for _, s := range p.States() {
		require.False(t, s.Out, "%+v", s)
	}
}

func TestWithoutCardsJobsFail(t *testing.T) {
	var events []Event
	var mu sync.Mutex
	lost := Card{Name: "lost", Start: func(context.Context) (Worker, error) { return nil, errors.New("no such card") }}
	p := open(t, []Card{lost}, quick(&events, &mu))
	_, errs := all(p, 5)
	for _, err := range errs {
		require.ErrorIs(t, err, ErrNoCards)
		require.ErrorContains(t, err, "no such card")
	}
	_, err := p.Do(context.Background(), Job{}, nil)
	require.ErrorIs(t, err, ErrNoCards)
	_, err = New(nil, Options{})
	require.ErrorIs(t, err, ErrNoCards)
}

func TestOrdinaryErrorsAreTheJobsOwn(t *testing.T) {
	p := open(t, []Card{cardOf("a", func(_ context.Context, job string) (string, error) { return "", errors.New("not a picture") })}, Options{})
	_, errs := all(p, 3)
	for _, err := range errs {
		require.EqualError(t, err, "not a picture")
	}
	require.Zero(t, p.States()[0].Failures)
}

func TestCloseWaitsOrEnds(t *testing.T) {
	p, err := New([]Card{cardOf("a", fine(20*time.Millisecond))}, Options{})
	require.NoError(t, err)
	answer := make(chan error, 1)
	go func() {
		_, err := p.Do(context.Background(), spec("1"), nil)
		answer <- err
	}()
	time.Sleep(5 * time.Millisecond)
	require.NoError(t, p.Close(context.Background()))
	require.NoError(t, <-answer)
	_, err = p.Do(context.Background(), Job{}, nil)
	require.ErrorIs(t, err, ErrClosed)

	p, err = New([]Card{cardOf("a", func(context.Context, string) (string, error) { select {} })}, Options{})
	require.NoError(t, err)
	go func() {
		_, err := p.Do(context.Background(), spec("1"), nil)
		answer <- err
	}()
	time.Sleep(5 * time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	require.NoError(t, p.Close(ctx))
	require.ErrorIs(t, <-answer, ErrClosed)
}

func TestJobWhoseCallerIsGoneIsNotDone(t *testing.T) {
	var done atomic.Int64
	p := open(t, []Card{cardOf("a", func(_ context.Context, job string) (string, error) {
		done.Add(1)
		time.Sleep(20 * time.Millisecond)
		return job, nil
	})}, Options{InFlight: 1})
	go func() { _, _ = p.Do(context.Background(), spec("1"), nil) }()
	time.Sleep(5 * time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := p.Do(ctx, spec("2"), nil)
	require.ErrorIs(t, err, context.Canceled)
	_, err = p.Do(context.Background(), spec("3"), nil)
	require.NoError(t, err)
	require.EqualValues(t, 2, done.Load())
}

// childEnv makes the test binary a worker.
const childEnv = "CARDS_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		kinds := func(err error) []string {
			if strings.Contains(err.Error(), "fatal") {
				return []string{KindBroken}
			}
			return []string{"ordinary"}
		}
		err := Serve(context.Background(), os.Stdin, os.Stdout, kinds,
			func(ctx context.Context, job Job, under Under) (Reply, error) {
				under.Progress(0.5)
				switch s := strings.Trim(string(job.Spec), `"`); s {
				case "die":
					fmt.Fprintln(os.Stderr, "something went wrong")
					os.Exit(3)
				case "fatal":
					return Reply{}, errors.New("fatal error of a card")
				case "error":
					return Reply{}, errors.New("ordinary error")
				case "wait":
					<-ctx.Done()
					return Reply{}, ctx.Err()
				case "ask":
					if err := under.Choose("rain"); err != nil {
						return Reply{}, err
					}
				case "hang":
					select {}
				case "starve":
					under.Waits("42 (python3) has it")
					under.Waits("42 (python3) has it")
				case "garbage":
					fmt.Println("not a message")
					select {}
				}
				reply, err := json.Marshal(map[string]string{"did": string(job.Spec)})
				return Reply{Spec: reply, Data: job.Data, Key: "rain", Costs: Costs{Run: time.Second}}, err
			})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child() *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	return cmd
}

func startChild(t testing.TB) Worker {
	w, err := StartProcess(context.Background(), child())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.Close()) })
	return w
}

func TestWorkerInAProcess(t *testing.T) {
	w := startChild(t)
	var last float64
	reply, err := w.Do(context.Background(), spec("x"), Under{Progress: func(done float64) { last = done }})
	require.NoError(t, err)
	require.JSONEq(t, `{"did": "\"x\""}`, string(reply.Spec))
	require.Equal(t, 0.5, last)
	nothing := Under{Progress: func(float64) {}}
	_, err = w.Do(context.Background(), spec("error"), nothing)
	require.EqualError(t, err, "ordinary error")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, err = w.Do(ctx, spec("wait"), nothing)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = w.Do(context.Background(), spec("x"), nothing)
	require.NoError(t, err, "the worker goes on")
	_, err = w.Do(context.Background(), spec("fatal"), nothing)
	require.ErrorIs(t, err, ErrBroken)
	require.ErrorContains(t, err, "fatal error of a card")
}

func TestDeathOfAProcessIsTold(t *testing.T) {
	nothing := Under{Progress: func(float64) {}}
	for job, want := range map[string]string{"die": "exit status 3: something went wrong", "garbage": "not a message"} {
		w := startChild(t)
		other := make(chan error, 1)
		go func() {
			_, err := w.Do(context.Background(), spec("wait"), nothing)
			other <- err
		}()
		_, err := w.Do(context.Background(), spec(job), nothing)
		require.ErrorIs(t, err, ErrBroken)
		require.ErrorContains(t, err, want)
		require.ErrorIs(t, <-other, ErrBroken)
		_, err = w.Do(context.Background(), spec("x"), nothing)
		require.ErrorIs(t, err, ErrBroken)
	}
	_, err := StartProcess(context.Background(), exec.Command("false"))
	require.ErrorIs(t, err, ErrBroken)
	_, err = StartProcess(context.Background(), exec.Command("/no/such/program"))
	require.Error(t, err)
}

// BenchmarkProcess measures what a job costs on its way to a process and back, by the bytes that go both ways.
func BenchmarkProcess(b *testing.B) {
	for _, size := range []int{0, 300 << 10, 3 << 20, 48 << 20} {
		b.Run(fmt.Sprintf("%d KiB", size>>10), func(b *testing.B) {
			w := startChild(b)
			job := Job{Spec: json.RawMessage(`"x"`), Data: make([]byte, size)}
			for b.Loop() {
				if _, err := w.Do(context.Background(), job, Under{Progress: func(float64) {}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func FuzzMessages(f *testing.F) {
	f.Add(`{"id":1,"reply":{}}` + "\n" + `{"ready":true}`)
	f.Add(`{"id":`)
	f.Add("\n\n{}")
	f.Fuzz(func(t *testing.T, text string) {
		n := 0
		err := readMessages(strings.NewReader(text), func(message) { n++ })
		require.LessOrEqual(t, n, 1+strings.Count(text, "\n"))
		if err != nil {
			require.NotEmpty(t, err.Error())
		}
	})
}
