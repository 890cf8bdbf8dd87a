package producer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

// Of messages 1, 2, 3 of one key 1 fails: 2 and 3 fail with it and are not
// stored; sent again, the queue reads 1, 2, 3. Eight goroutines with a thousand
// keys each, and an engine that is busy again and again.
func TestOrderPerKey(t *testing.T) {
	const goroutines, keys = 8, 1000
	for _, linger := range []bool{false, true} {
		t.Run(fmt.Sprint("linger=", linger), func(t *testing.T) {
			odds := 3
			if linger {
				odds = 40 // one refusal befalls a whole group
			}
			seed := rand.Uint64()
			var mu sync.Mutex
			rnd := rand.New(rand.NewPCG(seed, 0))
			f := newFake(8)
			f.fail = func(*message.Message, int) error {
				mu.Lock()
				defer mu.Unlock()
				if rnd.IntN(odds) == 0 {
					return message.ErrBusy
				}
				return nil
			}
			opts := []producer.Option{producer.WithRetries(1), producer.WithHeldKeys()}
			if linger {
				opts = append(opts, producer.WithLinger(100*time.Microsecond, 2000))
			}
			p := newProducer(t, f, opts...)
			var preceding, again atomic.Int64
			var wg sync.WaitGroup
			for g := range goroutines {
				wg.Go(func() {
					for k := range keys {
						key := fmt.Sprintf("%d-%d", g, k)
						again.Add(sendThree(p, key, &preceding))
					}
				})
			}
			wg.Wait()
			got := make(map[string][]string)
			for q := range int32(8) {
				for _, b := range f.bodies(message.Queue{Topic: "t", ID: q}) {
					key, n, _ := strings.Cut(b, "/")
					got[key] = append(got[key], n)
				}
			}
			require.Len(t, got, goroutines*keys)
			for key, ns := range got {
				require.Equal(t, []string{"1", "2", "3"}, ns, "key %s, seed %d", key, seed)
			}
			require.NotZero(t, preceding.Load())
			require.NotZero(t, again.Load())
		})
	}
}

// sendThree sends 1, 2, 3 of a key until all are stored: what failed again, in order.
func sendThree(p *producer.Producer, key string, preceding *atomic.Int64) (again int64) {
	todo := []string{"1", "2", "3"}
	for {
		var mu sync.Mutex
		var failed []string
		var wg sync.WaitGroup
		for _, n := range todo {
			wg.Add(1)
			p.SendAsync(context.Background(), keyed(key, key+"/"+n), func(_ message.Receipt, err error) {
				defer wg.Done()
				if err != nil {
					mu.Lock()
					failed = append(failed, n)
					mu.Unlock()
				}
				if errors.Is(err, producer.ErrPrecedingFailed) {
					preceding.Add(1)
				}
			})
		}
		wg.Wait()
		if len(failed) == 0 {
			return again
		}
		if !slices.IsSorted(failed) {
			panic(fmt.Sprint("callbacks out of order: ", failed))
		}
		p.Resume("t", key)
		todo = failed
		again++
	}
}

// What is in flight never passes its limits while the engine stands still, also
// when its senders have given up: the engine still has it.
func TestBackPressure(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		t.Run(fmt.Sprint("refuse=", refuse), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(4)
				f.stall = true
				opts := []producer.Option{producer.WithInFlight(10, 1<<20)}
				if refuse {
					opts = append(opts, producer.WithRefusal())
				}
				p := producer.New(f, opts...)
				var busy, late, unknown, stored atomic.Int64
				var wg sync.WaitGroup
				for g := range 8 {
					wg.Go(func() {
						for i := range 10 {
							wg.Add(1)
							p.SendAsync(context.Background(), msg(fmt.Sprintf("%d/%d", g, i)), func(_ message.Receipt, err error) {
								defer wg.Done()
								switch {
								case err == nil:
									stored.Add(1)
								case errors.Is(err, message.ErrBusy):
									busy.Add(1)
								case errors.Is(err, producer.ErrUnknownOutcome):
									unknown.Add(1)
								case errors.Is(err, context.DeadlineExceeded):
									late.Add(1)
								}
							})
						}
					})
				}
				wg.Wait()
				require.Equal(t, int64(10), unknown.Load())
				require.Equal(t, int64(70), busy.Load()+late.Load())
				require.Equal(t, refuse, late.Load() == 0)
				require.Equal(t, 10, f.peak)
				st := p.Stats()
				require.Equal(t, 10, st.InFlight, "the engine still has them")
				require.Equal(t, 10, st.PeakInFlight)
				require.Equal(t, int64(80), st.Failed)
				require.Equal(t, int64(0), st.Sent)
				f.release()
				synctest.Wait()
				require.Zero(t, p.Stats().InFlight)
				wg.Add(1)
				p.SendAsync(context.Background(), msg("after"), func(_ message.Receipt, err error) {
					require.NoError(t, err)
					wg.Done()
				})
				wg.Wait()
				require.NoError(t, p.Close(context.Background()))
			})
		})
	}
}

// Bytes count too; one message over the limit goes alone; a waiting sender's
// context is honoured.
func TestBytesInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(1)
		f.stall = true
		p := producer.New(f, producer.WithInFlight(100, 1000), producer.WithTimeout(0))
		ctx, cancel := context.WithCancel(context.Background())
		var mu sync.Mutex
		var results []error
		done := func(_ message.Receipt, err error) {
			mu.Lock()
			defer mu.Unlock()
			results = append(results, err)
		}
		p.SendAsync(ctx, msg(strings.Repeat("x", 5000)), done)
		require.Equal(t, 1, p.Stats().InFlight)
		go func() {
			time.Sleep(time.Second)
			cancel()
		}()
		began := time.Now()
		p.SendAsync(ctx, msg("y"), done)
		require.Equal(t, time.Second, time.Since(began))
		synctest.Wait()
		require.Len(t, results, 2)
		for _, err := range results {
			require.ErrorIs(t, err, context.Canceled)
		}
		require.NotEqual(t, errors.Is(results[0], producer.ErrUnknownOutcome), errors.Is(results[1], producer.ErrUnknownOutcome))
		f.release()
		require.NoError(t, p.Close(context.Background()))
	})
}

// A store whose log does not get on: nothing is written beyond the limits.
func TestStalledLog(t *testing.T) {
	sim := crash.New(1)
	e := env.Env{Clock: clock.Real{}, Manual: true, PID: 1, Open: func(path string, create bool) (fs.FS, error) {
		f := sim.FS().Sub(path)
		if create {
			return f, f.MkdirAll(".")
		}
		return f, nil
	}}
	s, err := store.Open("db", store.WithEnvironment(e))
	require.NoError(t, err)
	require.NoError(t, s.CreateTopic(context.Background(), store.Topic{Name: "t"}))
	p := producer.New(s, producer.WithInFlight(50, 20_000), producer.WithRefusal(), producer.WithTimeout(0))
	var answered, refused atomic.Int64
	for range 500 {
		p.SendAsync(context.Background(), msg("0123456789"), func(_ message.Receipt, err error) {
			if errors.Is(err, message.ErrBusy) {
				refused.Add(1)
			}
			answered.Add(1)
		})
		st := p.Stats()
		require.LessOrEqual(t, st.InFlight, 50)
		require.LessOrEqual(t, st.InFlightBytes, int64(20_000))
	}
	require.Positive(t, refused.Load())
	require.NoError(t, s.Close()) // writes what it has taken
	require.NoError(t, p.Close(context.Background()))
	require.Equal(t, int64(500), answered.Load())
	require.Equal(t, int64(500), refused.Load()+p.Stats().Sent)
}

// A callback may send although there is room for one only.
func TestCallbackSends(t *testing.T) {
	for _, linger := range []bool{false, true} {
		f := newFake(1)
		opts := []producer.Option{producer.WithInFlight(1, 1<<20)}
		if linger {
			opts = append(opts, producer.WithLinger(time.Millisecond, 1<<20))
		}
		p := producer.New(f, opts...)
		var wg sync.WaitGroup
		var send func(depth int)
		send = func(depth int) {
			wg.Add(1)
			p.SendAsync(context.Background(), msg(fmt.Sprint(depth)), func(_ message.Receipt, err error) {
				defer wg.Done()
				require.NoError(t, err)
				if depth > 0 {
					send(depth - 1)
				}
			})
		}
		for range 8 {
			wg.Go(func() { send(20) })
		}
		wg.Wait()
		require.NoError(t, p.Close(context.Background()))
		require.Len(t, f.all(), 8*21)
	}
}

// A re-send from inside the callbacks keeps the order too.
func TestResendInCallback(t *testing.T) {
	f := newFake(1)
	f.fail = func(m *message.Message, n int) error {
		if string(m.Body) == "1" && n <= 3 {
			return message.ErrBusy
		}
		return nil
	}
	f.stall = true
	p := newProducer(t, f)
	var wg sync.WaitGroup
	var send func(body string)
	send = func(body string) {
		wg.Add(1)
		p.SendAsync(context.Background(), keyed("k", body), func(_ message.Receipt, err error) {
			defer wg.Done()
			if err != nil {
				send(body)
			}
		})
	}
	for _, b := range []string{"1", "2", "3"} {
		send(b)
	}
	f.release()
	wg.Wait()
	require.Equal(t, []string{"1", "2", "3"}, f.bodies(message.Queue{Topic: "t"}))
}

func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(4)
		p := producer.New(f, producer.WithLinger(10*time.Millisecond, 2000))
		began := time.Now()
		var took []time.Duration
		done := func(_ message.Receipt, err error) {
			require.NoError(t, err)
			took = append(took, time.Since(began))
		}
		for i := range 3 {
			p.SendAsync(context.Background(), msg(fmt.Sprint(i)), done)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []int{3}, f.batches, "one group after the linger")
		require.Equal(t, slices.Repeat([]time.Duration{10 * time.Millisecond}, 3), took)
		f.batches, took, began = nil, nil, time.Now()
		for range 4 {
			p.SendAsync(context.Background(), msg(strings.Repeat("x", 400)), done)
		}
		synctest.Wait()
		require.Equal(t, []int{4}, f.batches, "one group when it is large enough")
		require.Zero(t, took[0])
		p.SendAsync(context.Background(), msg("last"), done)
		require.NoError(t, p.Close(context.Background()))
		require.Equal(t, time.Since(began), took[len(took)-1], "at once")
		require.Contains(t, f.all(), "last", "Close sends what lingers")
	})
}

// One message that the engine refuses does not spoil the others of its group.
func TestGroupWithOneBad(t *testing.T) {
	f := newFake(1)
	f.fail = func(m *message.Message, _ int) error {
		if string(m.Body) == "bad" {
			return message.ErrPermission
		}
		return nil
	}
	p := newProducer(t, f, producer.WithLinger(time.Millisecond, 1<<20))
	results := make(map[string]error)
	var wg sync.WaitGroup
	for _, m := range []*message.Message{msg("a"), keyed("k", "bad"), msg("b"), keyed("k", "behind"), keyed("l", "c")} {
		wg.Add(1)
		p.SendAsync(context.Background(), m, func(_ message.Receipt, err error) {
			results[string(m.Body)] = err
			wg.Done()
		})
	}
	wg.Wait()
	require.ErrorIs(t, results["bad"], message.ErrPermission)
	require.ErrorIs(t, results["behind"], producer.ErrPrecedingFailed)
	for _, ok := range []string{"a", "b", "c"} {
		require.NoError(t, results[ok])
	}
	require.ElementsMatch(t, []string{"a", "b", "c"}, f.all())
}

func TestOneWay(t *testing.T) {
	f := newFake(1)
	f.fail = func(m *message.Message, _ int) error {
		if string(m.Body) == "bad" {
			return message.ErrBusy
		}
		return nil
	}
	var hooked atomic.Int64
	p := producer.New(f, producer.OnSendFailure(func(_ context.Context, m *message.Message, err error) {
		if string(m.Body) == "bad" && errors.Is(err, message.ErrBusy) {
			hooked.Add(1)
		}
	}))
	require.NoError(t, p.SendOneWay(msg("good")))
	require.NoError(t, p.SendOneWay(msg("bad")))
	require.NoError(t, p.Close(context.Background()))
	require.Equal(t, []string{"good"}, f.all())
	require.Len(t, f.tried, 2, "one attempt each")
	st := p.Stats()
	require.Equal(t, int64(1), st.Lost)
	require.Equal(t, int64(1), st.Sent)
	require.Equal(t, int64(1), hooked.Load())
	require.ErrorIs(t, p.SendOneWay(msg("late")), message.ErrClosed)
}

func TestClose(t *testing.T) {
	f := newFake(1)
	f.stall = true
	p := producer.New(f)
	var told atomic.Bool
	p.SendAsync(context.Background(), msg("x"), func(_ message.Receipt, err error) { told.Store(err == nil) })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, p.Close(ctx), context.Canceled)
	_, err := p.Send(context.Background(), msg("y"))
	require.ErrorIs(t, err, message.ErrClosed)
	_, err = p.SendBatch(context.Background(), []*message.Message{msg("y")})
	require.ErrorIs(t, err, message.ErrClosed)
	p.SendAsync(context.Background(), msg("y"), func(_ message.Receipt, e error) { err = e })
	require.ErrorIs(t, err, message.ErrClosed)
	_, err = p.Request(context.Background(), msg("y"))
	require.ErrorIs(t, err, message.ErrClosed)
	f.release()
	require.NoError(t, p.Close(context.Background()))
	require.NoError(t, p.Close(context.Background()))
	require.True(t, told.Load(), "Close waits for callbacks")
	require.Equal(t, []string{"x"}, f.all())
}

// A thousand producers leave no goroutine behind (TestMain looks).
func TestNoLeaks(t *testing.T) {
	spool, err := producer.OpenSpool(t.TempDir(), 0)
	require.NoError(t, err)
	f := newFake(4)
	for i := range 1000 {
		opts := []producer.Option{producer.WithSpool(spool), producer.WithResend(time.Hour)}
		if i%2 == 0 {
			opts = append(opts, producer.WithLinger(time.Hour, 0))
		}
		p := producer.New(f, opts...)
		p.SendAsync(context.Background(), msg("a"), nil)
		p.SendAsync(context.Background(), keyed("k", "b"), nil)
		require.NoError(t, p.SendOneWay(keyed("k", "c")))
		_, err := p.Send(context.Background(), msg("d"))
		require.NoError(t, err)
		require.NoError(t, p.Close(context.Background()))
	}
	require.Len(t, f.all(), 4000)
	require.NoError(t, spool.Close())
}
