package interop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/schedule"
	"github.com/embermq/embermq/store"
)

// Report says what an export carried over.
type Report struct {
	Topics, Groups, Offsets int
	// Timers and Levels are delayed messages that RocketMQ will deliver: those
	// with a time of their own, and those delayed by level.
	Timers, Levels int
	Halves         int // half messages that RocketMQ will ask about
	// Broker are the lines that the broker's configuration file needs.
	Broker []string
	// Warnings say what RocketMQ will see differently, one a line.
	Warnings []string
}

// Export makes a directory ready for RocketMQ: it writes RocketMQ's config
// folder and its timer files from the store in dir. With out empty or equal to dir they
// are written into the directory itself; otherwise out, which must be missing or
// empty, becomes a copy without our own state. Nobody may have the store open.
// Nothing is delivered during the export. What it wrote is durable when it returns;
// after an error out is not usable. options are those of store.Open.
//
// The store must not be opened by EmberMQ again before RocketMQ has given it
// back: see Import.
func Export(ctx context.Context, dir, out string, options ...store.Option) (r Report, err error) {
	e := env.Real()
	e.Manual = true // no timer fires while it is being written down
	s, err := store.Open(dir, append(slices.Clone(options), store.WithEnvironment(e))...)
	if err != nil {
		return r, err
	}
	x := &exporter{ctx: ctx, s: s, report: &r, now: e.Clock.Now()}
	err = x.collect()
	if err = errors.Join(err, s.Close()); err != nil {
		return r, err
	}
	if out == "" {
		out = dir
	}
	if out != dir {
		if err := copyStore(ctx, dir, out); err != nil {
			return r, err
		}
	}
	if r.Broker, err = brokerLines(dir, out); err != nil {
		return r, err
	}
	to, err := fs.MakeOS(out)
	if err != nil {
		return r, fmt.Errorf("interop: open %s: %w", out, err)
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	return r, x.write(to)
}

// exporter gathers what is written later.
type exporter struct {
	ctx    context.Context
	s      *store.Store
	report *Report
	now    time.Time

	topics  []store.Topic
	groups  []javaGroup
	offsets map[string]map[message.Queue]int64
	levels  map[int]int64 // level → first queue offset that waits
	wheel   wheel
}

func (x *exporter) collect() error {
	x.topics = x.s.Topics()
	x.report.Topics = len(x.topics)
	x.offsets = make(map[string]map[message.Queue]int64)
	for _, g := range x.s.Progress().Groups() {
		x.groups = append(x.groups, javaGroup{g.Name, g.RetryMax, g.RetryQueues, !g.Disabled, g.Broadcast})
		x.offsets[g.Name] = x.s.Progress().Offsets(g.Name)
		x.report.Offsets += len(x.offsets[g.Name])
		if g.Broadcast {
			x.warn("group %s is broadcasting: RocketMQ's clients keep such offsets themselves", g.Name)
		}
	}
	x.report.Groups = len(x.groups)
	if err := x.collectTimers(); err != nil {
		return err
	}
	return x.collectHalves()
}

func (x *exporter) warn(format string, args ...any) {
	x.report.Warnings = append(x.report.Warnings, fmt.Sprintf(format, args...))
}

// collectTimers sorts the pending timers by where RocketMQ looks for them.
func (x *exporter) collectTimers() error {
	timers := message.Queue{Topic: message.TopicTimer}
	_, end, err := x.bounds(timers)
	if err != nil {
		return err
	}
	x.wheel = wheel{now: x.now.UnixMilli() / 1000 * 1000, queueEnd: end}
	low, waiting := make(map[int]int64), make(map[int]int64)
	for t, err := range x.s.Timers().Pending("", time.Time{}, time.Time{}) {
		if err != nil {
			return err
		}
		r, err := x.s.Get(x.ctx, t.Position)
		if err != nil {
			return err
		}
		if r.Topic() == message.TopicTimer {
			x.wheel.add(unit{due: t.Due.UnixMilli(), position: r.Position(), size: int32(r.Size()), topic: t.Topic})
			x.report.Timers++
			continue
		}
		level := int(r.QueueID()) + 1
		if at, ok := low[level]; !ok || r.Offset() < at {
			low[level] = r.Offset()
		}
		waiting[level]++
		x.report.Levels++
	}
	if last, ok, err := x.last(timers); err != nil {
		return err
	} else if ok {
		x.wheel.last = unit{position: last.Position(), size: int32(last.Size())}
	}
	x.levels = make(map[int]int64)
	for level := 1; level <= maxLevels; level++ {
		_, end, err := x.bounds(message.Queue{Topic: message.TopicSchedule, ID: int32(level - 1)})
		if err != nil {
			return err
		}
		x.levels[level] = end
		if at, ok := low[level]; ok {
			x.levels[level] = at
			if again := end - at - waiting[level]; again > 0 {
				x.warn("delay level %d: %d messages that were delivered or dropped lie behind one that waits, RocketMQ delivers them again", level, again)
			}
		}
	}
	return nil
}

const maxLevels = 18 // of RocketMQ's own table; a longer one has its queues in the log all the same

// collectHalves finds from where on RocketMQ has to look at transactions.
func (x *exporter) collectHalves() error {
	halves, ops := message.Queue{Topic: message.TopicHalf}, message.Queue{Topic: message.TopicOpHalf}
	_, halfAt, err := x.bounds(halves)
	if err != nil {
		return err
	}
	opStart, opAt, err := x.bounds(ops)
	if err != nil {
		return err
	}
	first := int64(-1)
	for h := range x.s.Halves().All() {
		if h.GivenUp {
			x.warn("half message %s was given up: RocketMQ leaves it in %s", h.ID, message.TopicCheckMax)
			continue
		}
		x.report.Halves++
		if first >= 0 {
			continue
		}
		first = h.Position
		r, err := x.s.Get(x.ctx, h.Position)
		if err != nil {
			return err
		}
		halfAt = r.Offset()
	}
	if first >= 0 {
		// A verdict lies behind its half.
		n := sort.Search(int(opAt-opStart), func(i int) bool {
			r, rerr := x.s.At(x.ctx, ops, opStart+int64(i))
			if rerr != nil {
				err = rerr
			}
			return r.Position() > first
		})
		opAt = opStart + int64(n)
	}
	x.offsets[transGroup] = map[message.Queue]int64{halves: halfAt, ops: opAt}
	return err
}

const transGroup = "CID_RMQ_SYS_TRANS"

// bounds are those of a queue that may never have been used.
func (x *exporter) bounds(q message.Queue) (start, end int64, err error) {
	start, end, err = x.s.Bounds(q)
	if errors.Is(err, store.ErrNotFound) {
		return 0, 0, nil
	}
	return start, end, err
}

// last is the newest record of a queue, if the log still has it.
func (x *exporter) last(q message.Queue) (r message.Record, ok bool, err error) {
	start, end, err := x.bounds(q)
	if err != nil || start == end {
		return r, false, err
	}
	r, err = x.s.At(x.ctx, q, end-1)
	return r, err == nil, err
}

func (x *exporter) write(to fs.FS) error {
	if err := x.writeConfig(to); err != nil {
		return fmt.Errorf("interop: write RocketMQ's config: %w", err)
	}
	if err := x.wheel.write(to); err != nil {
		return fmt.Errorf("interop: write RocketMQ's timers: %w", err)
	}
	return nil
}

// brokerLines are what RocketMQ must be told about the directory.
func brokerLines(dir, out string) ([]string, error) {
	f, err := readFormat(dir)
	if err != nil {
		return nil, err
	}
	lines := []string{"storePathRootDir=" + out, "timerWheelEnable=true"}
	for _, l := range []struct{ ours, java string }{
		{"commitlog.segment", "mappedFileSizeCommitLog"}, {"consumequeue.file", "mappedFileSizeConsumeQueue"},
		{"index.slots", "maxHashSlotNum"}, {"index.entries", "maxIndexNum"},
	} {
		lines = append(lines, l.java+"="+f[l.ours])
	}
	if levels := f["levels"]; levels != schedule.DefaultLevels {
		lines = append(lines, "messageDelayLevel="+levels)
	}
	if n, err := strconv.ParseInt(f["commitlog.segment"], 10, 64); err == nil {
		lines = append(lines, "maxMessageSize="+strconv.FormatInt(min(n, 16<<20), 10))
	}
	return lines, nil
}
