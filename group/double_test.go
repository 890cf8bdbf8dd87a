package group

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// double is a coordinator with one promise broken. A ledger that has never seen
// a bug proves nothing.
type double struct {
	hub
	valid   func(Claim) error
	refresh func(...string)
	fence   func(string)
	next    func(m seat, ch Change) Change
}

func (d double) Valid(k Claim) error {
	if d.valid != nil {
		return d.valid(k)
	}
	return d.hub.Valid(k)
}

func (d double) Refresh(topics ...string) {
	if d.refresh == nil {
		d.hub.Refresh(topics...)
	}
}

func (d double) Fence(group string) {
	if d.fence == nil {
		d.hub.Fence(group)
	}
}

func (d double) Join(ctx context.Context, w Member) (seat, error) {
	m, err := d.hub.Join(ctx, w)
	if err != nil || d.next == nil {
		return m, err
	}
	return doubleSeat{m, d.next}, nil
}

type doubleSeat struct {
	seat
	next func(m seat, ch Change) Change
}

func (s doubleSeat) Next(ctx context.Context) (Change, error) {
	ch, err := s.seat.Next(ctx)
	if err == nil {
		ch = s.next(s.seat, ch)
	}
	return ch, err
}

func TestDoublesAreFound(t *testing.T) {
	cases := []struct {
		name  string
		make  func(h hub) hub
		limit time.Duration
		want  string
	}{
		{"gives_before_the_drain", func(h hub) hub {
			return double{hub: h, next: func(m seat, ch Change) Change {
				m.Release(ch.Revoked...) // before the handlers have ended
				return ch
			}}
		}, modelLimit, "begins while"},
		{"gives_before_the_limit", func(h hub) hub { return h }, modelLimit / 2, "begins while"},
		{"never_loses", func(h hub) hub { return h }, 100 * modelLimit, "is valid although it is over"},
		{"loses_a_queue", func(h hub) hub {
			return double{hub: h, next: func(_ seat, ch Change) Change {
				if n := len(ch.Given); n > 1 {
					ch.Given = ch.Given[:n-1]
				}
				return ch
			}}
		}, modelLimit, "has 0 holders"},
		{"takes_stale_claims", func(h hub) hub {
			return double{hub: h, valid: func(Claim) error { return nil }}
		}, modelLimit, "is valid although it is over"},
		{"forgets_to_fence", func(h hub) hub {
			return double{hub: h, fence: func(string) {}}
		}, modelLimit, "is valid although it is over"},
		{"does_not_see_new_queues", func(h hub) hub {
			return double{hub: h, refresh: func(...string) {}}
		}, modelLimit, "holders"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(500) {
				problems, _, _ := run(t, seed, c.make, c.limit)
				for _, p := range problems {
					if strings.Contains(p, c.want) {
						return
					}
				}
			}
			require.Fail(t, "nobody noticed")
		})
	}
}
