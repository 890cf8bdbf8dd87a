package progress

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
)

// Defaults and limits of a group's settings.
const (
	DefaultRetryMax    = 16
	DefaultRetryQueues = 1
	maxRetryMax        = 1 << 20
	maxRetryQueues     = 1024
)

// Group is a consumer group's settings. The zero value of every field but Name
// is its default.
type Group struct {
	Name string
	// Broadcast: every member receives every message and keeps its own place.
	// Such a group does not guard, and its offsets cannot be reset.
	Broadcast bool
	// Disabled: members receive nothing until the group is enabled again.
	Disabled bool
	// RetryMax is how often a failed message is delivered again before it
	// becomes a dead letter. Zero is 16; -1 is never.
	RetryMax int
	// RetryQueues is the number of queues of the group's retry topic. Zero is 1.
	RetryQueues int
}

// normalise resolves defaults and checks ranges, the name excepted.
func (g *Group) normalise() error {
	if g.RetryMax == 0 {
		g.RetryMax = DefaultRetryMax
	}
	if g.RetryQueues == 0 {
		g.RetryQueues = DefaultRetryQueues
	}
	if g.RetryMax < -1 || g.RetryMax > maxRetryMax {
		return fmt.Errorf("progress: group %q: RetryMax %d is not in [-1, %d]: %w",
			g.Name, g.RetryMax, maxRetryMax, message.ErrOutOfRange)
	}
	if g.RetryQueues < 0 || g.RetryQueues > maxRetryQueues {
		return fmt.Errorf("progress: group %q: RetryQueues %d is not in [1, %d]: %w",
			g.Name, g.RetryQueues, maxRetryQueues, message.ErrOutOfRange)
	}
	return nil
}

// CreateGroup adds a group under a new epoch. It is on disk when CreateGroup
// returns. The errors are *message.NameError for a name that is not allowed or
// differs only in case from an existing one, message.ErrExists, and
// message.ErrOutOfRange for a setting.
func (p *Progress) CreateGroup(ctx context.Context, s Group) error {
	if err := checkGroup(&s); err != nil {
		return err
	}
	return p.create(ctx, s)
}

func checkGroup(s *Group) error {
	if err := message.CheckGroup(s.Name); err != nil {
		return err
	}
	if IsInternal(s.Name) {
		return &message.NameError{Kind: "group", Name: s.Name, Reason: "belongs to the store itself"}
	}
	return s.normalise()
}

// IsInternal reports whether a group is the store's own: it keeps what became of
// a group's dead letters and has the name of their topic. Groups does not list it,
// and it guards nothing.
func IsInternal(group string) bool {
	return strings.HasPrefix(message.FoldName(group), message.FoldName(message.PrefixDead))
}

// EnsureInternal creates an internal group unless it exists.
func (p *Progress) EnsureInternal(ctx context.Context, name string) error {
	p.mu.Lock()
	known := p.mu.groups[name] != nil
	p.mu.Unlock()
	if known {
		return nil
	}
	s := Group{Name: name}
	if err := s.normalise(); err != nil {
		return err
	}
	err := p.create(ctx, s)
	if errors.Is(err, message.ErrExists) { // somebody else was faster
		return nil
	}
	return err
}

func (p *Progress) create(ctx context.Context, s Group) error {
	s.Name = strings.Clone(s.Name)
	var g *group
	return p.change(ctx, s.Name, edit{
		prepare: func(b *kv.Batch) error {
			if twin, ok := p.mu.folded[message.FoldName(s.Name)]; ok {
				if twin == s.Name {
					return fmt.Errorf("progress: group %q: %w", s.Name, message.ErrExists)
				}
				return &message.NameError{Kind: "group", Name: s.Name,
					Reason: "differs only in case from the existing " + twin}
			}
			now := p.o.Clock.Now().UnixMilli()
			g = &group{name: s.Name, settings: s, epoch: p.nextEpochLocked(b), seen: now, stored: now}
			b.Set(groupKey(g.name), encodeGroup(g.row()))
			return nil
		},
		apply: func() {
			p.addLocked(g)
			p.raisedLocked(g, g.epoch)
		},
	})
}

// ensure creates a group with default settings unless it exists.
func (p *Progress) ensure(ctx context.Context, name string) error {
	p.mu.Lock()
	closed, g := p.mu.closed, p.mu.groups[name]
	p.mu.Unlock()
	if closed {
		return message.ErrClosed
	}
	if g != nil {
		return nil
	}
	s := Group{Name: name}
	if err := checkGroup(&s); err != nil {
		return err
	}
	if p.o.NoAutoCreate {
		return unknownGroup(name)
	}
	err := p.create(ctx, s)
	if errors.Is(err, message.ErrExists) { // somebody else was faster
		return nil
	}
	return err
}

// UpdateGroup replaces a group's settings, durably before it returns. Offsets
// and epoch stay. The error is message.ErrNotFound for an unknown group and
// message.ErrOutOfRange for a setting.
func (p *Progress) UpdateGroup(ctx context.Context, s Group) error {
	if err := checkGroup(&s); err != nil {
		return err
	}
	var g *group
	return p.change(ctx, s.Name, edit{
		prepare: func(b *kv.Batch) error {
			if g = p.mu.groups[s.Name]; g == nil {
				return unknownGroup(s.Name)
			}
			r := g.row()
			r.settings = s
			b.Set(groupKey(g.name), encodeGroup(r))
			return nil
		},
		apply: func() {
			s.Name = g.name
			g.settings = s
		},
	})
}

// DeleteGroup removes a group with all its offsets, durably before it returns.
// It raises the epoch: what the group's members still hold counts no more, and
// a group created later under the same name has a higher one. A member that
// commits afterwards creates the group again unless Options.NoAutoCreate is
// set. The error is message.ErrNotFound for an unknown group.
func (p *Progress) DeleteGroup(ctx context.Context, name string) error {
	var g *group
	var epoch uint64
	return p.change(ctx, name, edit{
		raises: true,
		prepare: func(b *kv.Batch) error {
			if g = p.mu.groups[name]; g == nil {
				return unknownGroup(name)
			}
			epoch = p.nextEpochLocked(b)
			deleteGroup(b, g.name)
			return nil
		},
		apply: func() {
			p.removeLocked(g)
			p.raisedLocked(g, epoch)
		},
	})
}

func deleteGroup(b *kv.Batch, name string) {
	b.Delete(groupKey(name))
	b.DeleteRange(groupRange(name))
}

// Group returns a group's settings, defaults filled in.
func (p *Progress) Group(name string) (s Group, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.mu.groups[name]
	if g == nil {
		return Group{}, false
	}
	return g.settings, true
}

// Groups returns all groups, sorted by name.
func (p *Progress) Groups() []Group {
	p.mu.Lock()
	all := make([]Group, 0, len(p.mu.groups))
	for _, g := range p.mu.groups {
		if !g.internal {
			all = append(all, g.settings)
		}
	}
	p.mu.Unlock()
	slices.SortFunc(all, func(a, b Group) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Epoch returns the group's epoch, which only rises, also across deletion and
// re-creation. For a group that does not exist it is the last epoch given to
// any group: higher than all that a deleted group of that name ever had, lower
// than what a new one gets.
func (p *Progress) Epoch(name string) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.mu.groups[name]; g != nil {
		return g.epoch
	}
	return p.mu.epoch
}

// Touch tells that the group is alive although it commits and fetches nothing.
// An unknown group is ignored.
func (p *Progress) Touch(name string) {
	now := p.o.Clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.mu.groups[name]; g != nil {
		p.seenLocked(g, now)
	}
}

// seenGrain is how far the stored last-seen time may lag behind. A kill thus
// ages a group by up to an hour, out of the thirty days that matter; in return
// a group that only fetches costs one small write an hour.
const seenGrain = time.Hour

func (p *Progress) seenLocked(g *group, now time.Time) {
	g.seen = now.UnixMilli()
	if d := g.seen - g.stored; d >= seenGrain.Milliseconds() || d <= -seenGrain.Milliseconds() {
		p.groupDirtyLocked(g.name)
	}
}

func (g *group) row() groupRow {
	return groupRow{settings: g.settings, epoch: g.epoch, seen: g.seen}
}

// nextEpochLocked takes a new epoch and writes the counter; it counts once the
// batch is applied. An epoch whose batch fails is not taken again, because
// nobody knows whether it reached the disk.
func (p *Progress) nextEpochLocked(b *kv.Batch) uint64 {
	p.taken++
	b.Set([]byte(keyEpoch), encodeEpoch(p.taken))
	return p.taken
}

func unknownGroup(name string) error {
	return fmt.Errorf("progress: group %q: %w", name, message.ErrNotFound)
}
