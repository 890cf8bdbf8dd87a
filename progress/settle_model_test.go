package progress

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/message"
)

// held is what the model knows of a record that was delivered and is not settled.
type held struct {
	attempts int
	lease    uint64
	until    int64
}

// placeModel is one group's place in one queue: a set, and a map.
type placeModel struct {
	known   bool
	settled map[int64]bool
	held    map[int64]held
}

func (m *placeModel) clone() *placeModel {
	return &placeModel{m.known, maps.Clone(m.settled), maps.Clone(m.held)}
}

func (m *placeModel) settle(o int64) {
	m.settled[o] = true
	delete(m.held, o)
}

const settleEnd = 60

// TestSettleModel compares verdicts, attempts and leases with a set and a map, over
// flushes, restarts and kills.
func TestSettleModel(t *testing.T) {
	for range 200 {
		seed := rand.Uint64()
		require.NoError(t, settleModel(t, seed), "seed %d", seed)
	}
}

func settleModel(t testing.TB, seed uint64) (err error) {
	rng := rand.New(rand.NewPCG(seed, 5))
	log, now := newLog("orders"), clock.NewManual(day)
	log.append(orders0, settleEnd)
	o := Options{Bounds: log.bounds, SyncLog: log.sync, Manual: true, Clock: now}
	db := newDB(t)
	p, err := Open(bg, db, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if err := p.CreateGroup(bg, Group{Name: "g", RetryMax: 100, RetryQueues: 1}); err != nil {
		return err
	}
	m := &placeModel{settled: map[int64]bool{}, held: map[int64]held{}}
	durable := m.clone()
	for range 150 {
		epoch := p.Epoch("g")
		now.Advance(time.Duration(rng.IntN(2000)) * time.Millisecond)
		v := done(rng.Int64N(settleEnd))
		h, isHeld := m.held[v.Offset]
		leased := isHeld && h.lease != 0 && h.until > now.Now().UnixMilli()
		switch rng.IntN(12) {
		case 0, 1, 2: // Done, with the lease, or with one that is over
			if isHeld && h.lease != 0 {
				v.Lease = h.lease
				if rng.IntN(4) == 0 {
					v.Lease += 1000
				}
			}
			_, _, err := p.Settle("g", epoch, []message.Verdict{v})
			switch {
			case v.Lease != 0 && v.Lease != h.lease || leased && v.Lease == 0:
				if !errors.Is(err, message.ErrFenced) {
					return fmt.Errorf("a lease that is over settled %d: %v", v.Offset, err)
				}
				continue
			case err != nil:
				if errors.Is(err, message.ErrFenced) && isHeld && !leased {
					continue // its time is over: checked by what is left as it was
				}
				return err
			}
			m.known = true
			m.settle(v.Offset)
		case 3:
			v.Kind, v.Offset = message.DoneThrough, v.Offset/4
			if _, _, err := p.Settle("g", epoch, []message.Verdict{v}); err != nil {
				return err
			}
			m.known = true
			for i := range v.Offset + 1 {
				m.settle(i)
			}
		case 4, 5:
			if v.Kind = message.Failed; isHeld && h.lease != 0 {
				continue
			}
			if _, _, err := p.Settle("g", epoch, []message.Verdict{v}); err != nil {
				return err
			}
			m.known = true
			if !m.settled[v.Offset] {
				h.attempts++
				m.held[v.Offset] = h
			}
		case 6, 7: // leases, those again first whose time is over
			l := p.Lease("g", epoch, orders0, now.Now().Add(time.Duration(1+rng.IntN(5))*time.Second))
			at := now.Now().UnixMilli()
			taken, _, _, err := l.Again(0, 2, 1<<20)
			if err != nil {
				return err
			}
			for _, x := range taken {
				if old := m.held[x.Offset]; old.until > at || x.Attempt != old.attempts+1 {
					return fmt.Errorf("%+v again, of %+v at %d", x, old, at)
				}
			}
			from, _, err := l.Cursor(bg)
			if err != nil {
				return err
			}
			next := min(from+1+rng.Int64N(3), settleEnd)
			var offsets []int64
			for i := from; i < next; i++ {
				offsets = append(offsets, i)
			}
			more, err := l.Take(from, next, offsets)
			l.Release()
			if err != nil {
				return err
			}
			for _, x := range append(taken, more...) {
				if m.settled[x.Offset] {
					return fmt.Errorf("%+v is settled", x)
				}
				m.held[x.Offset] = held{x.Attempt, x.Lease, x.Until.UnixMilli()}
			}
			m.known = true
		case 8: // a longer lease, or an early retry
			if !leased {
				continue
			}
			v.Kind, v.Lease, v.After = message.Extend, h.lease, time.Minute
			if rng.IntN(2) == 0 {
				v.Kind, v.After = message.Retry, time.Second
			}
			if _, _, err := p.Settle("g", epoch, []message.Verdict{v}); err != nil {
				return err
			}
			h.until = ceilMilli(now.Now().Add(v.After))
			if v.Kind == message.Retry {
				h.lease = 0
			}
			m.held[v.Offset] = h
		case 9:
			if err := p.Flush(bg); err != nil {
				return err
			}
			durable = m.clone()
		default:
			if rng.IntN(2) == 0 {
				if err := p.Close(); err != nil {
					return err
				}
				durable = m.clone()
			} else {
				p.stop()
			}
			if p, err = Open(bg, db, o); err != nil {
				return err
			}
			m = durable.clone()
		}
		got, err := p.Standing(bg, "g", p.Epoch("g"), orders0)
		if err == nil {
			err = m.compare(got)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *placeModel) compare(got message.Standing) error {
	want := message.Standing{Known: m.known}
	for m.settled[want.Committed] {
		want.Committed++
	}
	for o := want.Committed; o < settleEnd; o++ {
		if !m.settled[o] {
			continue
		}
		if n := len(want.Settled); n > 0 && want.Settled[n-1].To == o {
			want.Settled[n-1].To++
		} else {
			want.Settled = append(want.Settled, message.Range{From: o, To: o + 1})
		}
	}
	if got.Known != want.Known || got.Committed != want.Committed || !slices.Equal(got.Settled, want.Settled) {
		return fmt.Errorf("place %+v, want %+v", got, want)
	}
	for o, h := range m.held {
		if h.lease == 0 && got.Attempts[o] != h.attempts {
			return fmt.Errorf("%d was delivered %d times in vain, want %d", o, got.Attempts[o], h.attempts)
		}
	}
	return nil
}

// BenchmarkLease drains a queue by leases: take 32, and settle them.
func BenchmarkLease(b *testing.B) {
	p, qs := full(b, 8, 1)
	epoch, n := p.Epoch("group-0"), 0
	b.ReportAllocs()
	for b.Loop() {
		l := p.Lease("group-0", epoch, qs[0], time.Now().Add(time.Minute))
		from, _, err := l.Cursor(bg)
		require.NoError(b, err)
		offsets := make([]int64, 32)
		for i := range offsets {
			offsets[i] = from + int64(i)
		}
		taken, err := l.Take(from, from+32, offsets)
		l.Release()
		require.NoError(b, err)
		vs := make([]message.Verdict, len(taken))
		for i, x := range taken {
			vs[i] = message.Verdict{Queue: qs[0], Offset: x.Offset, Kind: message.Done, Lease: x.Lease}
		}
		_, _, err = p.Settle("group-0", epoch, vs)
		require.NoError(b, err)
		n += len(taken)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}
