package cards

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// small is a made-up card that holds so many keys and does one job at a time, whose key is its first letter.
type small struct {
	holds     int
	load, run time.Duration

	mu    sync.Mutex
	there []string // oldest first
	loads atomic.Int64
}

func (s *small) Kill()        {}
func (s *small) Close() error { return nil }

func (s *small) index(key string) int {
	for i, k := range s.there {
		if k == key {
			return i
		}
	}
	return -1
}

func (s *small) Do(_ context.Context, job Job, under Under) (Reply, error) {
	key := strings.Trim(string(job.Spec), `"`)[:1]
	s.mu.Lock()
	cold := s.index(key) < 0
	s.mu.Unlock()
	if cold {
		if err := under.Choose(key); err != nil {
			return Reply{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	reply := Reply{Spec: job.Spec, Key: key, Costs: Costs{Run: s.run, Again: s.run / 4}}
	if i := s.index(key); i >= 0 {
		s.there = append(append(s.there[:i:i], s.there[i+1:]...), key)
	} else {
		s.loads.Add(1)
		if s.there = append(s.there, key); len(s.there) > s.holds {
			s.there = s.there[1:]
		}
		time.Sleep(s.load)
		reply.Load = s.load
	}
	time.Sleep(s.run)
	return reply, nil
}

func (s *small) card(name string) Card {
	return Card{Name: name, Start: func(context.Context) (Worker, error) { return s, nil }}
}

// Each of two cards has room for half of the experts: pictures in random order go where theirs is, whether it is known
// beforehand or found out on the way.
func TestEachCardKeepsItsOwnExperts(t *testing.T) {
	for _, known := range []bool{false, true} {
		a := &small{holds: 2, load: 8 * time.Millisecond, run: time.Millisecond}
		b := &small{holds: 2, load: 8 * time.Millisecond, run: time.Millisecond}
		p := open(t, []Card{a.card("a"), b.card("b")}, Options{InFlight: 3})
		random := rand.New(rand.NewPCG(3, 4))
		var jobs sync.WaitGroup
		room := make(chan struct{}, 12)
		const n = 200
		for i := range n {
			room <- struct{}{}
			key := string("wxyz"[random.IntN(4)])
			jobs.Go(func() {
				defer func() { <-room }()
				j := spec(fmt.Sprint(key, i))
				if known {
					j.Key = key
				}
				reply, err := p.Do(context.Background(), j, nil)
				require.NoError(t, err)
				require.Equal(t, j.Spec, reply.Spec)
			})
		}
		jobs.Wait()
		s := p.States()
		loads := a.loads.Load() + b.loads.Load()
		t.Logf("known %v: %d loads for %d pictures; %+v", known, loads, n, s)
		// Without placement a card has the expert of every second picture only: 100 loads.
		require.Less(t, loads, int64(70), "known %v", known)
		require.Equal(t, int(loads), s[0].Loads+s[1].Loads)
		require.Greater(t, s[0].Done, n/5)
		require.Greater(t, s[1].Done, n/5)
	}
}

// An expert that everybody wants is loaded on every card: waiting for the one that has it would take longer.
func TestPopularExpertIsLoadedEverywhere(t *testing.T) {
	a := &small{holds: 2, load: 4 * time.Millisecond, run: time.Millisecond}
	b := &small{holds: 2, load: 4 * time.Millisecond, run: time.Millisecond}
	p := open(t, []Card{a.card("a"), b.card("b")}, Options{InFlight: 2})
	var jobs sync.WaitGroup
	for i := range 100 {
		jobs.Go(func() {
			_, err := p.Do(context.Background(), Job{Spec: spec(fmt.Sprint("x", i)).Spec, Key: "x"}, nil)
			require.NoError(t, err)
		})
	}
	jobs.Wait()
	s := p.States()
	require.Greater(t, s[0].Done, 20, "%+v", s)
	require.Greater(t, s[1].Done, 20, "%+v", s)
	require.LessOrEqual(t, a.loads.Load()+b.loads.Load(), int64(2))
}

// Few jobs at a time are spread over the cards, however many each could take.
func TestFewJobsDoNotMeetOnOneCard(t *testing.T) {
	var most [2]atomic.Int64
	var now [2]atomic.Int64
	of := func(i int) func(context.Context, string) (string, error) {
		return func(_ context.Context, job string) (string, error) {
			if n := now[i].Add(1); n > most[i].Load() {
				most[i].Store(n)
			}
			defer now[i].Add(-1)
			time.Sleep(20 * time.Millisecond)
			return job, nil
		}
	}
	p := open(t, []Card{cardOf("a", of(0)), cardOf("b", of(1))}, Options{InFlight: 8, Eager: true})
	require.Eventually(t, func() bool { s := p.States(); return s[0].Ready && s[1].Ready }, 5*time.Second, time.Millisecond)
	_, errs := all(p, 4)
	require.NoError(t, errors.Join(errs...))
	require.EqualValues(t, 2, most[0].Load())
	require.EqualValues(t, 2, most[1].Load())
}

// A card that has failed has nothing loaded any more: what waits for it goes to the others.
func TestJobsDoNotWaitForACardThatFailed(t *testing.T) {
	c := &card{Card: Card{Name: "c"}, up: true, busy: map[*task]time.Time{}, hot: map[string]bool{}, going: map[string]int{}, costs: Costs{Load: time.Hour, Run: time.Second}}
	o := &card{Card: Card{Name: "o"}, up: true, busy: map[*task]time.Time{}, hot: map[string]bool{"x": true}, going: map[string]int{}, costs: Costs{Run: time.Second}}
	p := &Pool{opt: Options{}.withDefaults(), cards: []*card{c, o}}
	c.pool, o.pool = p, p
	p.changed = sync.NewCond(&p.mu)
	p.queue = []*task{{job: Job{Key: "x"}}, {job: Job{Key: "y"}}}
	require.Equal(t, 1, c.pick(), "the first is for o, which has its expert")
	require.Equal(t, 0, o.pick())
	mine := &task{}
	c.busy[mine] = time.Now()
	require.ErrorIs(t, c.choose(mine, "x"), ErrElsewhere)
	require.NoError(t, c.choose(mine, "x"), "a job moves once")
	require.True(t, c.hot["x"])
	delete(c.hot, "x")
	o.failure(errors.New("lost"), time.Second)
	require.Equal(t, 0, c.pick())
}

// A card that has not the memory for a picture hands it to one that has; where none has, the picture fails and says why.
func TestPictureThatDoesNotFitGoesToALargerCard(t *testing.T) {
	var tried atomic.Int64
	little := func(_ context.Context, job string) (string, error) {
		tried.Add(1)
		if job == "7" {
			return "", fmt.Errorf("%w: 3 GiB are needed", errNoRoom)
		}
		return job, nil
	}
	slow := func(_ context.Context, job string) (string, error) { time.Sleep(2 * time.Millisecond); return job, nil }
	p := open(t, []Card{cardOf("little", little), cardOf("large", slow)}, Options{InFlight: 1})
	for range 5 {
		_, errs := all(p, 20)
		require.NoError(t, errors.Join(errs...))
	}
	require.Positive(t, tried.Load())
	require.Zero(t, p.States()[0].Failures)

	p = open(t, []Card{cardOf("little", little), cardOf("also little", little)}, Options{})
	_, errs := all(p, 20)
	for i, err := range errs {
		if i == 7 {
			require.ErrorIs(t, err, errNoRoom)
			require.ErrorContains(t, err, "3 GiB are needed")
		} else {
			require.NoError(t, err)
		}
	}
}

// The card that has the memory is taken out while a picture waits for it.
func TestPictureThatOnlyALostCardHasRoomForFails(t *testing.T) {
	var events []Event
	var mu sync.Mutex
	little := func(context.Context, string) (string, error) { return "", fmt.Errorf("%w: too small", errNoRoom) }
	lost := Card{Name: "lost", Start: func(context.Context) (Worker, error) { return nil, errors.New("no such card") }}
	p := open(t, []Card{cardOf("little", little), lost}, quick(&events, &mu))
	_, err := p.Do(context.Background(), spec("1"), nil)
	require.ErrorIs(t, err, errNoRoom)
}

func TestEagerPoolSaysWhenItIsReady(t *testing.T) {
	p := open(t, []Card{cardOf("a", fine(0))}, Options{Eager: true})
	require.NoError(t, p.Ready(context.Background()))
	require.True(t, p.States()[0].Ready)
	var events []Event
	var mu sync.Mutex
	opt := quick(&events, &mu)
	opt.Eager = true
	p = open(t, []Card{{Name: "lost", Start: func(context.Context) (Worker, error) { return nil, errors.New("no such card") }}}, opt)
	require.ErrorIs(t, p.Ready(context.Background()), ErrNoCards)
	p = open(t, []Card{{Name: "slow", Start: func(ctx context.Context) (Worker, error) { <-ctx.Done(); return nil, ctx.Err() }}}, Options{Eager: true})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, p.Ready(ctx), context.DeadlineExceeded)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	require.NoError(t, p.Close(ended))
}

// Bytes go both ways beside what describes them, and a worker's question is answered.
func TestBytesAndQuestionsPassBetweenProcesses(t *testing.T) {
	w := startChild(t)
	data := make([]byte, 3<<20)
	for i := range data {
		data[i] = byte(i * 7 / 3)
	}
	nothing := Under{Progress: func(float64) {}, Choose: func(string) error { return nil }}
	var jobs sync.WaitGroup
	for range 8 { // large both ways at the same time: neither side may wait for the other to read
		jobs.Go(func() {
			reply, err := w.Do(context.Background(), Job{Spec: json.RawMessage(`"x"`), Data: data}, nothing)
			require.NoError(t, err)
			require.Equal(t, data, reply.Data)
			require.Equal(t, "rain", reply.Key)
			require.Equal(t, Costs{Run: time.Second}, reply.Costs)
		})
	}
	jobs.Wait()
	asked := ""
	ask := Under{Progress: func(float64) {}, Choose: func(key string) error { asked = key; return nil }}
	_, err := w.Do(context.Background(), spec("ask"), ask)
	require.NoError(t, err)
	require.Equal(t, "rain", asked)
	ask.Choose = func(string) error { return ErrElsewhere }
	_, err = w.Do(context.Background(), spec("ask"), ask)
	require.ErrorIs(t, err, ErrElsewhere)
	_, err = w.Do(context.Background(), spec("error"), nothing)
	var told *JobError
	require.ErrorAs(t, err, &told)
	require.Equal(t, []string{"ordinary"}, told.Kinds)
	require.NotErrorIs(t, err, ErrBroken)
}
