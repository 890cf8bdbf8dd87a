package store_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

var (
	rotCases = flag.Int("rot.cases", 400, "damages that TestI02BitRot plants in all files of a store; the log alone has a test of its own in commitlog")
	rotSeed  = flag.Uint64("rot.seed", 0, "replay this damage only")
)

// rotten is a store and what it must hold.
type rotten struct {
	sim    *crash.Sim
	clock  *clock.Manual
	files  []string // with bytes in them, each as often as it has pages
	want   map[message.Queue][]string
	synced map[message.Queue]int64 // messages that no damage may take silently
	offset int64
}

// newRotten makes a store with all kinds of files, closed or killed.
func newRotten(t *testing.T, closed bool) *rotten {
	t.Helper()
	m := newMachine(t)
	r := &rotten{clock: m.clock, want: map[message.Queue][]string{}, synced: map[message.Queue]int64{}, offset: 9}
	s := m.open(store.WithDurability(message.InCache), store.WithDedupe(time.Hour, 1000), store.WithIndexSizes(64, 64))
	for i := range 160 {
		q := message.Queue{Topic: []string{"orders", "bills"}[i%2], ID: int32(i / 2 % 2)}
		text := fmt.Sprintf("%04d%s", i, strings.Repeat(".", 150))
		put(t, s, &message.Message{Topic: q.Topic, QueueID: q.ID, Tag: "tag", Keys: []string{"k"}, IdempotencyKey: fmt.Sprint(i), Body: []byte(text)})
		r.want[q] = append(r.want[q], text)
		switch i {
		case 50, 110:
			require.NoError(t, s.Checkpoint(ctx))
		case 80:
			put(t, s, &message.Message{Topic: "later", Delay: time.Hour})
			_, _, err := s.Halves().Prepare(ctx, &message.Message{Topic: "later"}, "p", message.HalfOptions{})
			require.NoError(t, err)
		case 150:
			require.NoError(t, s.Commit(ctx, "g", map[message.Queue]int64{orders: r.offset}))
			require.NoError(t, s.Sync(ctx))
			require.NoError(t, s.Log().SaveDurably())
			for q, texts := range r.want {
				r.synced[q] = int64(len(texts))
			}
		}
	}
	if closed {
		require.NoError(t, s.Close())
		for q, texts := range r.want {
			r.synced[q] = int64(len(texts))
		}
		r.sim = m.sim.Kill()
	} else {
		r.sim = m.sim.Kill()
		require.NoError(t, s.Abandon())
	}
	for name, b := range (&machine{t, r.sim, r.sim.FS(), m.clock}).files() {
		if n := len(strings.Trim(b, "\x00")); n > 0 && name != "lock" {
			for range 1 + n/4096 {
				r.files = append(r.files, name)
			}
		}
	}
	slices.Sort(r.files)
	return r
}

// damage plants something and says what.
func (r *rotten) damage(sim *crash.Sim, rnd *rand.Rand) (what string, err error) {
	name := r.files[rnd.IntN(len(r.files))]
	e, err := sim.FS().Stat(name)
	if err != nil {
		return "", err
	}
	at := rnd.Int64N(max(1, e.Size))
	switch rnd.IntN(8) {
	default:
		bit := rnd.IntN(8)
		return fmt.Sprintf("bit %d at %d of %s", bit, at, name), sim.FlipBit(name, at, bit)
	case 4:
		return fmt.Sprintf("sector at %d of %s zeroed", at, name), sim.ZeroSector(name, at)
	case 5:
		return fmt.Sprintf("sector at %d of %s stale", at, name), sim.StaleSector(name, at)
	case 6:
		other := rnd.Int64N(max(1, e.Size))
		return fmt.Sprintf("sectors at %d and %d of %s swapped", at, other, name), sim.SwapSectors(name, at, other)
	case 7:
		f, err := sim.FS().Open(name, 0)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s cut to %d", name, at), errors.Join(f.Truncate(at), f.Sync(), f.Close())
	}
}

// typedDamage tells whether an error is one that the documentation names for damage.
func typedDamage(err error) bool {
	var missing *store.MissingError
	return errors.Is(err, store.ErrCorrupt) || errors.As(err, &missing) || errors.Is(err, store.ErrUnknownFormat)
}

// look opens a damaged machine and reads everything.
func (r *rotten) look(sim *crash.Sim) (class string, err error) {
	e := env.Env{Open: func(string, bool) (fs.FS, error) { return sim.FS(), nil }, Clock: r.clock, Manual: true, PID: 7}
	s, err := store.Open("rotten", store.WithEnvironment(e), store.WithDedupe(time.Hour, 1000))
	if err != nil {
		if !typedDamage(err) {
			return "", fmt.Errorf("open: %T: %w", err, err)
		}
		return "Open says so", nil
	}
	defer func() { err = errors.Join(err, s.Abandon()) }()
	class = "nothing hit, or healed"
	for q, texts := range r.want {
		start, end, err := s.Bounds(q)
		switch {
		case err != nil && !typedDamage(err):
			return "", fmt.Errorf("bounds of %s: %w", q, err)
		case err != nil:
			class = "a read says so"
			continue
		}
		for at := start; at < end; at++ {
			b, err := s.Read(ctx, q, at, message.Limit{Count: 1}, nil)
			if err != nil {
				if !typedDamage(err) {
					return "", fmt.Errorf("read %s at %d: %T: %w", q, at, err, err)
				}
				class = "a read says so"
				continue
			}
			if len(b.Records) == 0 && b.Next > at {
				return "", fmt.Errorf("%s at %d is passed without a word", q, at)
			}
			if len(b.Records) > 0 && (at >= int64(len(texts)) || string(b.Records[0].Body()) != texts[at]) {
				return "", fmt.Errorf("%s at %d is %.30q", q, at, b.Records[0].Body())
			}
		}
		start, end, err = s.Bounds(q) // a rebuild may have moved them
		if err == nil && (start > 0 || end < r.synced[q]) && class != "a read says so" {
			return "", fmt.Errorf("%s holds %d..%d of %d synced ones, and nobody says so", q, start, end, r.synced[q])
		}
	}
	offset, ok, err := s.Committed(ctx, "g", orders)
	if err != nil && !typedDamage(err) && !errors.Is(err, store.ErrNotFound) {
		return "", fmt.Errorf("committed: %w", err)
	}
	if ok && offset > r.offset {
		return "", fmt.Errorf("offset %d was never committed", offset)
	}
	if offset < r.offset && class != "a read says so" {
		class = "offsets went back"
	}
	return class, nil
}

// TestI02BitRot damages any file of a store, and demands the right messages or an
// error that says so.
func TestI02BitRot(t *testing.T) {
	both := []*rotten{newRotten(t, true), newRotten(t, false)}
	count := map[string]int{}
	for seed := uint64(1); seed <= uint64(*rotCases); seed++ {
		if *rotSeed != 0 {
			seed = *rotSeed
		}
		rnd := rand.New(rand.NewPCG(seed, 2))
		r := both[seed%2]
		sim := r.sim.Kill()
		what, err := r.damage(sim, rnd)
		require.NoError(t, err)
		class, err := inTime(fmt.Sprintf("-rot.seed=%d: %s", seed, what), func() (string, error) { return r.look(sim) })
		if err != nil {
			t.Fatalf("%s: %v\nreplay: go test ./store -run '^TestI02BitRot$' -rot.seed=%d", what, err, seed)
		}
		if *rotSeed != 0 {
			t.Log(what, ": ", class)
			return
		}
		count[class]++
	}
	t.Log(count)
	require.Greater(t, count["Open says so"], *rotCases/50)
	require.Greater(t, count["a read says so"], *rotCases/50)
}

// inTime ends the process, with all stacks, when f hangs.
func inTime(what string, f func() (string, error)) (string, error) {
	late := time.AfterFunc(60*time.Second, func() { panic("hangs: " + what) })
	defer late.Stop()
	return f()
}
