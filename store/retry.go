package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/progress"
)

// firstRetryLevel is the delay level of a record's first retry; each further one
// is a level higher. It is RocketMQ's.
const firstRetryLevel = 3

// reasonSpent stands in dead letters that nobody gave a reason for.
const reasonSpent = "retried as often as the group allows"

// maxReason bounds the text that goes into a dead letter.
const maxReason = 512

// copyDrops are the properties that told when or where the source was delivered.
var copyDrops = []string{
	message.PropDelay, message.PropRealTopic, message.PropRealQueue, message.PropTimerOutMs,
	message.PropTimerDelaySec, message.PropTimerDelayMs, message.PropTimerDeliverMs, message.PropTimerEnqueueMs,
	message.PropTimerDequeueMs, message.PropTimerRollTimes, message.PropTimerDelUniq, message.PropTimerLevel,
	message.PropDeadTopic, message.PropDeadID, message.PropDeadReason, message.PropDeadAt,
}

// retryAfter is how long the table lets a record wait that was delivered so often.
func (s *Store) retryAfter(attempts int) time.Duration {
	return s.levels.Delay(s.retryLevel(attempts - 1))
}

func (s *Store) retryLevel(reconsumed int) int {
	return min(firstRetryLevel+reconsumed, len(s.levels))
}

// replacement is a record that takes another one's place for a group.
type replacement struct {
	verdict *message.Verdict
	source  *message.Record  // nil when it cannot be read
	flight  *progress.Flight // nil when nothing has to be written
	to      message.Queue    // where it lies
	home    message.Queue    // where it is delivered
	env     message.Envelope
	drops   []string // properties that the copy does not take
}

// settleByRecord carries out verdicts that need a record each, in one append. The
// flights keep everybody else off the records between the look at the claim and the
// append, so that no lock is held across it.
func (s *Store) settleByRecord(ctx context.Context, c group.Claim, vs []message.Verdict) error {
	if err := s.groups.Valid(c); err != nil {
		return err
	}
	g, ok := s.progress.Group(c.Group)
	if !ok {
		return fmt.Errorf("store: group %s: %w", c.Group, ErrNotFound)
	}
	rs := make([]replacement, len(vs))
	for i := range vs {
		if err := s.readSource(ctx, &rs[i], &vs[i]); err != nil {
			return err
		}
	}
	if err := s.takeOff(c, rs); err != nil {
		return err
	}
	defer land(rs)
	for i := range rs {
		if r := &rs[i]; r.flight != nil {
			if err := s.address(r, g); err != nil {
				return err
			}
		}
	}
	_, err := s.appendReplacements(ctx, rs)
	return err
}

// readSource reads the record that a verdict is about. Of one that cannot be read
// a dead letter keeps at least what is known.
func (s *Store) readSource(ctx context.Context, r *replacement, v *message.Verdict) error {
	r.verdict = v
	rec, err := s.recordAt(ctx, v.Queue, v.Offset)
	switch {
	case err == nil:
		r.source = &rec
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrOutOfRange),
		errors.Is(err, ErrCorrupt) && v.Kind == message.DeadLetter:
	default:
		return err
	}
	return nil
}

// recordAt reads one record. One that is not there any more is
// ErrNotFound or ErrOutOfRange.
func (s *Store) recordAt(ctx context.Context, q message.Queue, offset int64) (rec message.Record, err error) {
	b, err := s.Read(ctx, q, offset, message.Limit{Count: 1}, nil)
	if err != nil {
		return rec, err
	}
	if len(b.Records) == 0 || b.Next != offset+1 {
		return rec, fmt.Errorf("store: %s has no record at %d: %w", q, offset, ErrNotFound)
	}
	return b.Records[0], nil
}

// takeOff makes sure of the claim and announces what is about to be settled. What
// is settled already needs no record and gets no flight; nor does the retry of a
// record that is gone.
func (s *Store) takeOff(c group.Claim, rs []replacement) error {
	err := s.groups.Do(c, func() error {
		for i := range rs {
			r := &rs[i]
			v := *r.verdict
			if r.source == nil && v.Kind == message.Retry {
				v.Kind = message.Done
				if _, _, err := s.progress.Settle(c.Group, c.Epoch, []message.Verdict{v}); err != nil {
					return err
				}
				continue
			}
			if again(rs[:i], &v) {
				continue
			}
			f, err := s.progress.TakeOff(c.Group, c.Epoch, v.Queue, v.Offset, v.Lease)
			if err != nil && !progress.IsSettled(err) {
				return err
			}
			r.flight = f
		}
		return nil
	})
	if err != nil {
		land(rs)
	}
	return err
}

// again reports whether a record of rs settles what v does.
func again(rs []replacement, v *message.Verdict) bool {
	return slices.ContainsFunc(rs, func(r replacement) bool {
		return r.flight != nil && r.verdict.Offset == v.Offset && r.verdict.Queue == v.Queue
	})
}

func land(rs []replacement) {
	for i := range rs {
		if f := rs[i].flight; f != nil {
			f.Land()
			rs[i].flight = nil
		}
	}
}

// address says where a retry or a dead letter goes and what it bears.
func (s *Store) address(r *replacement, g progress.Group) error {
	v := r.verdict
	if v.Kind == message.DeadLetter || r.source != nil && int(r.source.ReconsumeTimes()) >= max(g.RetryMax, 0) {
		s.addressDead(r, g.Name)
		return nil
	}
	reconsumed := r.source.ReconsumeTimes()
	r.drops = copyDrops
	r.env = message.Envelope{ReconsumeTimes: reconsumed + 1, Reserved: s.origin(r)}
	m := message.Message{Topic: message.PrefixRetry + g.Name, QueueID: int32(v.Offset % int64(g.RetryQueues))}
	switch level := slices.Index(s.levels, v.After); {
	case v.After == 0:
		m.DelayLevel = s.retryLevel(int(reconsumed))
	case level >= 0:
		m.DelayLevel = level + 1
	case v.After > 0:
		m.Delay = v.After
	}
	id := r.source.UniqueID()
	if id == "" {
		id = s.ids.Next()
		r.env.Reserved = append(r.env.Reserved, message.Property{Name: message.PropUniqKey, Value: id})
	}
	route, err := s.levels.Route(&m, s.cfg.env.Clock.Now(), func() string { return id }, r.env.Reserved)
	if err != nil {
		return err
	}
	r.to, r.env.Reserved = route.Queue, route.Reserved
	r.home = message.Queue{Topic: m.Topic, ID: m.QueueID}
	return nil
}

// origin are the properties that name the original. The first retry sets them and
// the later ones keep them.
func (s *Store) origin(r *replacement) []message.Property {
	src := r.source
	ps := []message.Property{r.flight.Settlement.Property()}
	if src == nil {
		return ps
	}
	if _, ok := src.Property(message.PropRetryTopic); !ok {
		ps = append(ps, message.Property{Name: message.PropRetryTopic, Value: src.Topic()})
	}
	if _, ok := src.Property(message.PropOriginID); !ok {
		ps = append(ps, message.Property{Name: message.PropOriginID, Value: message.OffsetID(src.StoreHost(), src.Position())})
	}
	if _, ok := src.Property(message.PropOriginQueue); !ok {
		ps = append(ps, message.Property{Name: message.PropOriginQueue, Value: originQueue(r.verdict)})
	}
	return ps
}

func originQueue(v *message.Verdict) string {
	return strconv.Itoa(int(v.Queue.ID)) + ":" + strconv.FormatInt(v.Offset, 10)
}

// addressDead sends a record to the group's dead letters.
func (s *Store) addressDead(r *replacement, name string) {
	v, now := r.verdict, s.cfg.env.Clock.Now()
	r.to, r.drops = message.Queue{Topic: message.PrefixDead + name}, copyDrops
	r.home = r.to
	ps := s.origin(r)
	topic, reconsumed := v.Queue.Topic, int32(0)
	add := func(name, value string) { ps = append(ps, message.Property{Name: name, Value: value}) }
	if src := r.source; src != nil {
		if t, ok := src.Property(message.PropRetryTopic); ok {
			topic = t
		}
		id, ok := src.Property(message.PropOriginID)
		if !ok {
			id = message.OffsetID(src.StoreHost(), src.Position())
		}
		add(message.PropDeadID, id)
		reconsumed = src.ReconsumeTimes()
		if src.UniqueID() == "" {
			add(message.PropUniqKey, s.ids.Next())
		}
	} else {
		add(message.PropOriginQueue, originQueue(v))
		add(message.PropUniqKey, s.ids.Next())
	}
	add(message.PropDeadTopic, topic)
	add(message.PropDeadAt, strconv.FormatInt(now.UnixMilli(), 10))
	reason := v.Reason
	if reason == "" && v.Kind == message.Retry {
		reason = reasonSpent
	}
	if reason = cleanReason(reason); reason != "" {
		add(message.PropDeadReason, reason)
	}
	// One delivery beyond those that the record itself counts, or all that were
	// counted in its place.
	r.env = message.Envelope{ReconsumeTimes: reconsumed + int32(max(r.flight.Attempts, 1)), Reserved: ps}
}

// cleanReason makes any text fit for a property.
func cleanReason(text string) string {
	text = strings.Map(func(c rune) rune {
		if c == 0x01 || c == 0x02 {
			return ' '
		}
		return c
	}, text)
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "")
	}
	return text
}

// appendReplacements writes the records that have a flight, in atomic groups that
// are not large, and from the last room on the disk. It says how many were written;
// they are applied then.
func (s *Store) appendReplacements(ctx context.Context, rs []replacement) (written int, err error) {
	var flying []*replacement
	begun := false
	for i := range rs {
		if f := rs[i].flight; f != nil {
			flying = append(flying, &rs[i])
			begun = begun || f.Begun
		}
	}
	if begun && !(plant.Enabled && plant.Is(plant.StorePlaceUnsynced)) {
		if err := s.progress.Flush(ctx); err != nil {
			return 0, err
		}
	}
	// What was begun is carried through: a record under way keeps others waiting.
	ctx = context.WithoutCancel(ctx)
	limit := min(replaceBytes, s.log.GroupLimit())
	for len(flying) > 0 {
		n, bytes := 0, int64(0)
		for n < len(flying) {
			if bytes += flying[n].size(); n > 0 && bytes > limit {
				break
			}
			n++
		}
		if err := s.appendGroup(ctx, flying[:n]); err != nil {
			return written, err
		}
		written += n
		flying = flying[n:]
	}
	return written, nil
}

// replaceBytes is how large a group of copies becomes, and copyRoom what a copy
// may take beyond its source.
const (
	replaceBytes = 1 << 20
	copyRoom     = 2048
)

func (r *replacement) size() int64 {
	if r.source == nil {
		return copyRoom
	}
	return int64(r.source.Size()) + copyRoom
}

func (s *Store) appendGroup(ctx context.Context, rs []*replacement) error {
	p := s.getPutting()
	for i, r := range rs {
		if len(rs) > 1 && i == 0 {
			r.env.Reserved = append(r.env.Reserved, message.Property{Name: message.PropGroup, Value: message.GroupValue(len(rs)), Own: true})
		}
		if err := s.addReplacement(ctx, p, r); err != nil {
			s.putPutting(p)
			return err
		}
	}
	p.group.OnDisk = s.cfg.durability == message.OnDisk
	p.group.Reserve = true
	if err := s.log.Append(ctx, &p.group); err != nil {
		if errors.Is(err, commitlog.ErrSequenceClosed) {
			err = fmt.Errorf("%w: a topic was deleted meanwhile", ErrBusy)
		}
		return s.failed(p, err)
	}
	s.done(p)
	s.countSettled(rs)
	if plant.Enabled && plant.Is(plant.StoreSettlesLater) {
		for _, r := range rs {
			f := &r.flight.Settlement
			r.flight.Land()
			_, _, err := s.progress.Settle(f.Group, f.Epoch, []message.Verdict{{Queue: f.Queue, Offset: f.Offset, Kind: message.Done, Lease: r.lease()}})
			r.flight = nil
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// countSettled counts what verdicts have made; what is moved has none.
func (s *Store) countSettled(rs []*replacement) {
	for _, r := range rs {
		switch {
		case r.verdict == nil:
		case strings.HasPrefix(r.to.Topic, message.PrefixDead):
			s.stats.dead.Add(1)
		default:
			s.stats.retries.Add(1)
		}
	}
}

func (r *replacement) lease() uint64 {
	if r.verdict == nil {
		return 0
	}
	return r.verdict.Lease
}

func (s *Store) addReplacement(ctx context.Context, p *putting, r *replacement) error {
	home, err := s.replacementHome(ctx, r)
	if err != nil {
		return err
	}
	r.env.StoreHost = s.format.host
	if plant.Enabled && plant.Is(plant.StoreSettlesLater) {
		r.env.Reserved = slices.DeleteFunc(r.env.Reserved, func(p message.Property) bool { return p.Name == message.PropSettles })
	}
	en := p.group.Add()
	if r.source == nil {
		r.env.BornHost = s.format.host
		err = en.Draft.Encode(&message.Message{Topic: r.to.Topic}, r.to, &r.env)
	} else {
		err = en.Draft.EncodeRecord(r.source, r.to, &r.env, r.drops...)
	}
	en.Home, en.Seq = home, home.seq
	return err
}

// replacementHome finds the queue that a record goes to. The topics of a group's
// retries and dead letters are made when they are needed first.
func (s *Store) replacementHome(ctx context.Context, r *replacement) (*queue, error) {
	if err := s.ownQueue(ctx, r.home); err != nil {
		return nil, err
	}
	if err := s.guardRetry(r); err != nil {
		return nil, err
	}
	if message.IsSystemTopic(r.to.Topic) {
		return s.systemQueue(ctx, r.to)
	}
	q, ok := s.topics.queue(r.to)
	if !ok {
		return nil, fmt.Errorf("store: queue %s: %w", r.to, ErrNotFound)
	}
	return q, nil
}

// guardRetry gives the group a place in the queue of its retries: retention keeps
// what a group has not settled only where it has one.
func (s *Store) guardRetry(r *replacement) error {
	f := &r.flight.Settlement
	if r.home.Topic != message.PrefixRetry+f.Group || s.progress.Place(f.Group, r.home).Known {
		return nil
	}
	_, _, err := s.progress.Settle(f.Group, f.Epoch, []message.Verdict{{Queue: r.home, Offset: -1, Kind: message.DoneThrough}})
	return err
}

// ownQueue makes a queue of a group's own topic when it is missing.
func (s *Store) ownQueue(ctx context.Context, name message.Queue) error {
	queues := 1
	switch {
	case strings.HasPrefix(name.Topic, message.PrefixRetry):
		g, _ := s.progress.Group(strings.TrimPrefix(name.Topic, message.PrefixRetry))
		queues = max(g.RetryQueues, int(name.ID)+1)
	case !strings.HasPrefix(name.Topic, message.PrefixDead):
		return nil
	}
	if _, ok := s.topics.queue(name); ok {
		return nil
	}
	t := Topic{Name: name.Topic, ReadQueues: queues, WriteQueues: queues}.withDefaults(Topic{})
	_, err := s.topics.create(ctx, t)
	if errors.Is(err, ErrExists) {
		if _, ok := s.topics.queue(name); ok {
			return nil // another call was faster
		}
		err = s.topics.update(ctx, t) // the group has got more retry queues
	}
	return err
}
