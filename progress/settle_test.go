package progress

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

// settling is a record that settles s.
func settling(t testing.TB, s message.Settlement) *message.Record {
	t.Helper()
	var d message.Draft
	require.NoError(t, d.Encode(&message.Message{}, queue("%DLQ%g", 0), &message.Envelope{Reserved: []message.Property{s.Property()}}))
	d.Stamp(1<<20, 3, day.UnixMilli())
	r, err := message.ParseRecord(d.Bytes())
	require.NoError(t, err)
	return &r
}

func (r *rig) settle(vs ...message.Verdict) {
	r.t.Helper()
	_, _, err := r.Settle("g", r.Epoch("g"), vs)
	require.NoError(r.t, err)
}

func (r *rig) stands(q message.Queue) message.Standing {
	r.t.Helper()
	s, err := r.Standing(bg, "g", r.Epoch("g"), q)
	require.NoError(r.t, err)
	return s
}

func done(offset int64) message.Verdict {
	return message.Verdict{Queue: orders0, Offset: offset, Kind: message.Done}
}

// The set of settled offsets against a plain map of them.
func TestSettledIsASet(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 3))
		r, model := row{offset: rng.Int64N(3)}, map[int64]bool{}
		base := r.offset
		for range 60 {
			switch o := base + rng.Int64N(40); rng.IntN(6) {
			case 0:
				to := o + rng.Int64N(5)
				r.settleRange(o, to)
				for ; o < to; o++ {
					model[o] = true
				}
			case 1:
				if rng.IntN(5) == 0 {
					r.raise(o)
					for i := base; i < o; i++ {
						model[i] = true
					}
				}
			default:
				require.Equal(t, !model[o], r.settle(o), "seed %d", seed)
				model[o] = true
			}
			low := base
			for model[low] {
				low++
			}
			require.Equal(t, low, r.offset, "seed %d", seed)
			last := r.offset
			for _, s := range r.settled {
				require.True(t, s.From > last && s.To > s.From, "seed %d: %v above %d", seed, r.settled, r.offset)
				last = s.To
			}
			for o := base; o < base+50; o++ {
				require.Equal(t, model[o], r.isSettled(o), "seed %d: %d", seed, o)
			}
			p := r.placeNow()
			back, err := decodePlace(nil, appendPlace(nil, &p))
			require.NoError(t, err)
			require.Equal(t, p, back)
		}
	}
}

func TestSettlementIsApplied(t *testing.T) {
	r := newRig(t)
	r.commit("g", orders0, 5)
	good := message.Settlement{Group: "g", Epoch: r.Epoch("g"), Queue: orders0, Offset: 7}
	for name, s := range map[string]message.Settlement{
		"other_group":    {Group: "h", Epoch: good.Epoch, Queue: orders0, Offset: 7},
		"older_epoch":    {Group: "g", Epoch: good.Epoch - 1, Queue: orders0, Offset: 7},
		"newer_epoch":    {Group: "g", Epoch: good.Epoch + 1, Queue: orders0, Offset: 7},
		"no_place":       {Group: "g", Epoch: good.Epoch, Queue: orders1, Offset: 7},
		"unknown_queue":  {Group: "g", Epoch: good.Epoch, Queue: queue("nobody", 0), Offset: 7},
		"behind_the_end": {Group: "g", Epoch: good.Epoch, Queue: orders0, Offset: 100},
		"below":          {Group: "g", Epoch: good.Epoch, Queue: orders0, Offset: 4},
	} {
		r.View().Apply(settling(t, s))
		require.Equal(t, message.Standing{Known: true, Committed: 5}, r.stands(orders0), name)
	}
	for range 2 { // a replay applies it again
		r.View().Apply(settling(t, good))
		require.Equal(t, message.Standing{Known: true, Committed: 5, Settled: []message.Range{{From: 7, To: 8}}}, r.stands(orders0))
	}
	require.NoError(t, r.View().Freeze(message.Mark{Offset: 99, Fingerprint: 4})())
	r.crash()
	require.Equal(t, message.Standing{Known: true, Committed: 5, Settled: []message.Range{{From: 7, To: 8}}}, r.stands(orders0))
	m, ok := r.View().Saved()
	require.True(t, ok)
	require.Equal(t, message.Mark{Offset: 99, Fingerprint: 4}, m)
	require.Equal(t, 1, r.log.syncs)
}

// The mark may not pass what is only in memory.
func TestMarkWaitsForRows(t *testing.T) {
	r := newRig(t)
	r.commit("g", orders0, 5)
	r.db.fail(failsBefore)
	require.ErrorIs(t, r.View().Freeze(message.Mark{Offset: 99})(), errDisk)
	_, ok := r.View().Saved()
	require.False(t, ok)
	r.crash()
	_, ok = r.View().Saved()
	require.False(t, ok)
}

func TestVerdicts(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Ensure(bg, "g"))
	failed := message.Verdict{Queue: orders0, Offset: 3, Kind: message.Failed}
	_, begun, err := r.Settle("g", r.Epoch("g"), []message.Verdict{{Queue: orders0, Offset: 1, Kind: message.DoneThrough}})
	require.NoError(t, err)
	require.True(t, begun)
	r.settle(failed, failed, done(5))
	want := message.Standing{Known: true, Committed: 2, Settled: []message.Range{{From: 5, To: 6}}, Attempts: map[int64]int{3: 2}}
	require.Equal(t, want, r.stands(orders0))
	require.NoError(t, r.Flush(bg))
	r.crash()
	require.Equal(t, want, r.stands(orders0))
	r.settle(done(2), done(3), failed)
	require.Equal(t, message.Standing{Known: true, Committed: 4, Settled: []message.Range{{From: 5, To: 6}}}, r.stands(orders0))
	_, _, err = r.Settle("g", r.Epoch("g")+1, []message.Verdict{done(4)})
	require.ErrorIs(t, err, message.ErrFenced)
	_, _, err = r.Settle("nobody", 1, []message.Verdict{done(4)})
	require.ErrorIs(t, err, message.ErrNotFound)
	leased := done(4)
	leased.Lease = 7
	_, _, err = r.Settle("g", r.Epoch("g"), []message.Verdict{leased})
	require.ErrorIs(t, err, message.ErrFenced)
	require.ErrorIs(t, r.CheckOffsets([]message.Verdict{done(100)}), message.ErrOutOfRange)
}

// Out of order work is bounded: at the limit only what makes no new gap is taken.
func TestSettledIsBounded(t *testing.T) {
	r := newRig(t)
	r.log.append(orders0, 3*maxRanges)
	r.commit("g", orders0, 0)
	for i := range int64(maxRanges) {
		r.settle(done(2*i + 1))
	}
	_, _, err := r.Settle("g", r.Epoch("g"), []message.Verdict{done(2*maxRanges + 1)})
	require.ErrorIs(t, err, message.ErrBusy)
	r.settle(done(2), done(0))
	require.EqualValues(t, 4, r.stands(orders0).Committed)
	r.settle(done(2*maxRanges + 1))
	require.NoError(t, r.Flush(bg))
	want := r.stands(orders0)
	r.crash()
	require.Equal(t, want, r.stands(orders0))
}

// Whoever takes a queue over hears of what its last holder had under way.
func TestStandingWaitsForFlights(t *testing.T) {
	bubble(t, func(t *testing.T, db *faultyDB) {
		r := newRigOn(t, db)
		r.commit("g", orders0, 0)
		f, err := r.TakeOff("g", r.Epoch("g"), orders0, 4, 0)
		require.NoError(t, err)
		_, err = r.TakeOff("g", r.Epoch("g"), orders0, 4, 0)
		require.ErrorIs(t, err, message.ErrBusy)
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		_, err = r.Standing(ctx, "g", r.Epoch("g"), orders0)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		go func() {
			time.Sleep(time.Second)
			r.View().Apply(settling(t, f.Settlement))
			f.Land()
		}()
		require.Equal(t, message.Standing{Known: true, Settled: []message.Range{{From: 4, To: 5}}}, r.stands(orders0))
		_, err = r.TakeOff("g", r.Epoch("g"), orders0, 4, 0)
		require.True(t, IsSettled(err))
		f, err = r.TakeOff("g", r.Epoch("g"), orders0, 5, 0)
		require.NoError(t, err)
		f.Land()
		require.Equal(t, message.Standing{Known: true, Settled: []message.Range{{From: 4, To: 5}}}, r.stands(orders0))
	})
}

func TestResetForgetsWhatLiesAbove(t *testing.T) {
	r := newRig(t)
	r.commit("g", orders0, 2)
	r.settle(done(4), message.Verdict{Queue: orders0, Offset: 3, Kind: message.Failed})
	require.NoError(t, r.Reset(bg, "g", at(orders0, 1)))
	require.Equal(t, message.Standing{Known: true, Committed: 1}, r.stands(orders0))
	r.crash()
	require.Equal(t, message.Standing{Known: true, Committed: 1}, r.stands(orders0))
}

func TestCloneTakesWhatIsSettled(t *testing.T) {
	r := newRig(t)
	r.commit("h", orders0, 2)
	_, _, err := r.Settle("h", r.Epoch("h"), []message.Verdict{done(4), {Queue: orders0, Offset: 3, Kind: message.Failed}})
	require.NoError(t, err)
	require.NoError(t, r.Clone(bg, "h", "g", "orders"))
	want := message.Standing{Known: true, Committed: 2, Settled: []message.Range{{From: 4, To: 5}}}
	require.Equal(t, want, r.stands(orders0))
	r.crash()
	require.Equal(t, want, r.stands(orders0))
}

// After the log was cut nothing above its end may stay settled: new records will
// have those offsets.
func TestClampCutsWhatLiesAbove(t *testing.T) {
	r := newRig(t)
	r.commit("g", orders0, 2)
	r.settle(done(90), done(91), done(92), done(95), message.Verdict{Queue: orders0, Offset: 96, Kind: message.Failed})
	require.NoError(t, r.Flush(bg))
	r.log.visible[orders0] = 92
	n, err := r.Clamp(bg, r.log.known)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	want := message.Standing{Known: true, Committed: 2, Settled: []message.Range{{From: 90, To: 92}}}
	require.Equal(t, want, r.stands(orders0))
	r.crash()
	require.Equal(t, want, r.stands(orders0))
}

func TestInternalGroups(t *testing.T) {
	r := newRig(t)
	require.ErrorIs(t, r.CreateGroup(bg, Group{Name: "%DLQ%g"}), message.ErrInvalidName)
	require.ErrorIs(t, r.Ensure(bg, "%dlq%g"), message.ErrInvalidName)
	for range 2 {
		require.NoError(t, r.EnsureInternal(bg, "%DLQ%g"))
	}
	_, _, err := r.Settle("%DLQ%g", r.Epoch("%DLQ%g"), []message.Verdict{done(4)})
	require.NoError(t, err)
	require.Empty(t, r.Groups())
	_, guarded := r.Guards(orders0, day)
	require.False(t, guarded)
}
