package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// work is one chain of crashes: what a store is asked to do on a simulated
// machine, and with which options.
type work struct {
	rnd     *rand.Rand
	m       *model
	law     *law
	clock   *clock.Manual
	opts    []store.Option
	aligned bool // every record fills whole sectors
	force   bool // retention does not ask the groups
	keyed   bool // messages have keys, for the index and against repetition
	c       *campaign

	s *store.Store
	// asyncs are the puts whose answer has not come.
	asyncs []async
	odd    error // a receipt that does not fit
}

type async struct {
	p    *message.Pending
	item int
	disk bool
}

const retention = time.Hour

func newWork(seed uint64, c *campaign) *work {
	rnd := rand.New(rand.NewPCG(seed, 3))
	onDisk := rnd.IntN(3) > 0
	w := &work{
		rnd: rnd, m: newModel(onDisk), law: newLaw(), c: c, aligned: rnd.IntN(3) == 0, force: rnd.IntN(2) == 0,
		clock: clock.NewManual(time.UnixMilli(1_700_000_000_000)),
	}
	durability := message.OnDisk
	if !onDisk {
		durability = message.InCache
	}
	w.opts = []store.Option{
		store.WithDurability(durability), store.WithSegmentSize(4096 << min(rnd.IntN(3), rnd.IntN(5))), store.WithMaxUnsynced(4096 << rnd.IntN(3)),
		store.WithQueueFileSize(int64(200 + 20*rnd.IntN(91))), store.WithTopicQueues(2), store.WithRetention(retention),
	}
	if rnd.IntN(4) == 0 {
		w.opts = append(w.opts, store.WithDurableSettle())
	}
	if w.keyed = rnd.IntN(2) == 0; w.keyed {
		w.opts = append(w.opts, store.WithDedupe(24*time.Hour, 10_000))
	}
	if w.force {
		w.opts = append(w.opts, store.WithForceExpiry())
	}
	return w
}

// open opens the store on a file tree of the machine.
func (w *work) open(root fs.FS) (err error) {
	w.asyncs = nil
	e := env.Env{
		Open:  func(string, bool) (fs.FS, error) { return root, nil },
		Clock: w.clock, Manual: true, PID: 7,
	}
	w.s, err = store.Open("crash", append(slices.Clip(w.opts), store.WithEnvironment(e))...)
	return err
}

// run does n random things.
func (w *work) run(n int) error {
	for range n {
		if err := w.step(); err != nil {
			return err
		}
		w.m.do(func() {
			w.answers()
			w.seen()
		})
		if w.odd != nil {
			return w.odd
		}
		if err := w.law.err(); err != nil {
			return wrongf("%v", err)
		}
	}
	return nil
}

func (w *work) step() error {
	switch k := w.rnd.IntN(40); {
	case k < 12:
		return w.put(1)
	case k < 16:
		return w.put(2 + w.rnd.IntN(4))
	case k < 19:
		return w.putAsync()
	case k < 22:
		return w.commit()
	case k < 23:
		return w.reset()
	case k < 24:
		return w.create()
	case k < 25:
		return w.update()
	case k < 26:
		return w.remove()
	case k < 29:
		w.clock.Advance(time.Duration(w.rnd.IntN(2)) * time.Second)
		return w.background()
	case k < 31:
		return w.sync()
	case k < 33:
		return w.s.Checkpoint(ctx)
	case k < 34:
		return w.s.Queues().Flush() // as memory pressure does
	case k < 36:
		return w.retain()
	case k < 37:
		return w.reopen()
	default:
		return w.look()
	}
}

// seen takes what is visible under OnDisk for promised: a consumer may have
// read it.
func (w *work) seen() {
	if w.m.onDisk {
		w.m.safe = max(w.m.safe, w.m.visible(w.s.Log().Visible()))
		w.m.kept = max(w.m.kept, w.m.safe)
	}
}

var topicNames = []string{"t0", "t1", "t2"}

func (w *work) topic() string { return topicNames[w.rnd.IntN(len(topicNames))] }
func (w *work) group() string { return []string{"g0", "g1"}[w.rnd.IntN(2)] }

// defaultTopic is what a put makes of an unknown topic.
func defaultTopic(name string) *store.Topic {
	return &store.Topic{Name: name, ReadQueues: 2, WriteQueues: 2, Permission: store.PermRead | store.PermWrite}
}

// message makes the i-th of n messages of a group and its item.
func (w *work) message(i, n int) (*message.Message, item) {
	name := w.topic()
	queues := 2
	if t := w.now(name); t != nil {
		queues = t.WriteQueues
	}
	q := message.Queue{Topic: name, ID: int32(w.rnd.IntN(queues))}
	w.m.do(func() { w.m.serial++ })
	it := item{q: q, text: fmt.Sprintf("message %d.", w.m.serial), size: w.rnd.IntN(400), group: w.m.groups, pos: -1}
	if w.rnd.IntN(12) == 0 {
		it.size = w.rnd.IntN(1500)
	}
	it.size = max(it.size, len(it.text))
	if w.rnd.IntN(3) == 0 {
		it.tag = []string{"a", "bb"}[w.rnd.IntN(2)]
	}
	msg := &message.Message{Topic: q.Topic, QueueID: q.ID, Tag: it.tag, Durability: message.Durability(w.rnd.IntN(3))}
	if w.keyed {
		msg.Keys, msg.IdempotencyKey = []string{"k"}, it.text
	}
	if w.aligned {
		var d message.Draft
		var e message.Envelope
		if n > 1 && i == 0 {
			e.Reserved = []message.Property{{Name: message.PropGroup, Value: message.GroupValue(n), Own: true}}
		}
		msg.Body = it.body()
		if err := d.Encode(msg, q, &e); err != nil {
			panic(err)
		}
		it.size += (512 - d.Size()%512) % 512
	}
	msg.Body = it.body()
	return msg, it
}

// now is what a topic is as far as the caller knows.
func (w *work) now(name string) *store.Topic {
	may := w.m.topics[name]
	if len(may) == 0 {
		return nil
	}
	return may[len(may)-1]
}

// begin notes records that are about to be put, and topics that they make.
func (w *work) begin(its []item) (first int) {
	first = len(w.m.items)
	w.m.items = append(w.m.items, its...)
	for i := range its {
		w.makes(its[i].q.Topic, defaultTopic(its[i].q.Topic))
	}
	return first
}

func (w *work) makes(name string, t *store.Topic) {
	if w.now(name) == nil {
		if w.m.topics[name] == nil {
			w.m.topics[name] = []*store.Topic{nil}
		}
		w.m.topics[name] = append(w.m.topics[name], t)
	}
}

// made says that a topic is now what it was last asked to be.
func (w *work) made(name string) {
	may := w.m.topics[name]
	w.m.topics[name] = may[len(may)-1:]
}

// stored notes where an item went.
func (w *work) stored(i int, r message.Receipt) {
	w.m.items[i].pos = r.Position
	if want := w.m.before(i); r.Offset != want && w.odd == nil {
		w.odd = wrongf("a put to %s got offset %d and not %d", r.Queue, r.Offset, want)
	}
	size := int64(1) // its end is not known, its beginning is enough
	w.law.place(r.Queue, r.Offset, r.Position, size)
}

func (w *work) put(n int) error {
	var ms []*message.Message
	var its []item
	disk := false
	for i := range n {
		if i == 0 {
			w.m.do(func() { w.m.groups++ })
		}
		msg, it := w.message(i, n)
		disk = disk || msg.Durability == message.OnDisk || msg.Durability == message.StoreDefault && w.m.onDisk
		ms, its = append(ms, msg), append(its, it)
	}
	first := 0
	w.m.do(func() { first = w.begin(its) })
	var rs []message.Receipt
	var err error
	if n == 1 {
		rs = make([]message.Receipt, 1)
		rs[0], err = w.s.Put(ctx, ms[0])
	} else {
		rs, err = w.s.PutBatch(ctx, ms)
	}
	if errors.Is(err, store.ErrTooLarge) {
		w.m.do(func() {
			w.m.items = w.m.items[:first]
			for i := range its {
				if _, _, err := w.s.Bounds(message.Queue{Topic: its[i].q.Topic}); err == nil {
					w.made(its[i].q.Topic)
				} else {
					w.m.topics[its[i].q.Topic] = []*store.Topic{nil}
				}
			}
		})
		return nil
	}
	if err != nil {
		return err
	}
	w.m.do(func() {
		for i := range its {
			w.stored(first+i, rs[i])
			w.made(its[i].q.Topic)
		}
		w.m.kept = first + n
		if disk {
			w.m.safe = first + n
		}
		w.answers()
	})
	return nil
}

func (w *work) putAsync() error {
	for range 1 + w.rnd.IntN(6) {
		w.m.do(func() { w.m.groups++ })
		msg, it := w.message(0, 1)
		first := 0
		w.m.do(func() { first = w.begin([]item{it}) })
		p := w.s.PutAsync(ctx, msg)
		w.m.do(func() {
			w.made(it.q.Topic)
			w.asyncs = append(w.asyncs, async{p, first, msg.Durability == message.OnDisk || msg.Durability == message.StoreDefault && w.m.onDisk})
		})
	}
	w.m.do(w.answers)
	return nil
}

// answers takes the answers of asynchronous puts that have come.
func (w *work) answers() {
	for len(w.asyncs) > 0 {
		a := w.asyncs[0]
		select {
		case <-a.p.Done():
		default:
			return
		}
		r, err := a.p.Wait(ctx)
		if err != nil {
			panic("an asynchronous put failed on a healthy disk: " + err.Error())
		}
		w.stored(a.item, r)
		w.m.kept = max(w.m.kept, a.item+1)
		if a.disk {
			w.m.safe = max(w.m.safe, a.item+1)
		}
		w.asyncs = w.asyncs[1:]
	}
}

// background does what the store's goroutines would.
func (w *work) background() error {
	if err := w.s.Step(ctx); err != nil {
		return err
	}
	w.m.do(func() {
		w.answers()
		w.m.flushed()
	})
	return nil
}

func (w *work) sync() error {
	if err := w.s.Sync(ctx); err != nil {
		return err
	}
	w.m.do(func() {
		w.answers()
		w.m.flushed()
		w.m.safe, w.m.kept = len(w.m.items), len(w.m.items)
	})
	return nil
}

// queue chooses a queue of a living topic.
func (w *work) queue() (q message.Queue, start, end int64, ok bool) {
	name := w.topic()
	t := w.now(name)
	if t == nil {
		return q, 0, 0, false
	}
	q = message.Queue{Topic: name, ID: int32(w.rnd.IntN(t.ReadQueues))}
	start, end, err := w.s.Bounds(q)
	return q, start, end, err == nil
}

func (w *work) commit() error {
	group := w.group()
	offsets := map[message.Queue]int64{}
	for range 1 + w.rnd.IntN(2) {
		if q, start, end, ok := w.queue(); ok {
			offsets[q] = start + w.rnd.Int64N(end-start+1)
		}
	}
	if len(offsets) == 0 {
		return nil
	}
	w.m.do(func() {
		for q, offset := range offsets {
			w.may(group, q, max(offset, w.last(group, q)))
		}
	})
	if err := w.s.Commit(ctx, group, offsets); err != nil {
		return err
	}
	w.m.do(func() { w.m.made[group] = true })
	return nil
}

// may notes that an offset may from now on be found.
func (w *work) may(group string, q message.Queue, offset int64) {
	gq := groupQueue{group, q}
	if w.m.offsets[gq] == nil {
		w.m.offsets[gq] = []int64{-1}
	}
	w.m.offsets[gq] = append(w.m.offsets[gq], offset)
}

func (w *work) last(group string, q message.Queue) int64 {
	may := w.m.offsets[groupQueue{group, q}]
	if len(may) == 0 {
		return -1
	}
	return may[len(may)-1]
}

func (w *work) reset() error {
	group, name := w.group(), w.topic()
	t := w.now(name)
	if t == nil {
		return nil
	}
	to := message.First()
	if w.rnd.IntN(2) == 0 {
		to = message.Last()
	}
	offsets := map[message.Queue]int64{}
	for _, q := range w.s.QueuesOf(name) {
		start, end := w.s.BoundsOf(q)
		offsets[q] = start
		if to.Kind == message.StartLast {
			offsets[q] = end
		}
	}
	w.m.do(func() {
		for q, offset := range offsets {
			w.may(group, q, offset)
		}
	})
	if err := w.s.ResetOffsets(ctx, group, name, to); err != nil {
		return err
	}
	w.m.do(func() {
		w.m.made[group] = true
		for q, offset := range offsets {
			w.m.offsets[groupQueue{group, q}] = []int64{offset}
		}
	})
	return nil
}

func (w *work) randomTopic(name string) *store.Topic {
	return &store.Topic{
		Name: name, ReadQueues: 1 + w.rnd.IntN(4), WriteQueues: 1 + w.rnd.IntN(4), Permission: store.PermRead | store.PermWrite,
		Kind: store.Kind(w.rnd.IntN(2)),
	}
}

func (w *work) create() error {
	t := w.randomTopic(w.topic())
	if w.now(t.Name) != nil {
		return nil
	}
	w.m.do(func() { w.makes(t.Name, t) })
	if err := w.s.CreateTopic(ctx, *t); err != nil {
		return err
	}
	w.m.do(func() { w.made(t.Name) })
	return nil
}

func (w *work) update() error {
	t := w.randomTopic(w.topic())
	if w.now(t.Name) == nil {
		return nil
	}
	w.m.do(func() { w.m.topics[t.Name] = append(w.m.topics[t.Name], t) })
	if err := w.s.UpdateTopic(ctx, *t); err != nil {
		return err
	}
	w.m.do(func() { w.made(t.Name) })
	return nil
}

func (w *work) remove() error {
	name := w.topic()
	if w.now(name) == nil {
		return nil
	}
	w.m.do(func() {
		w.m.groups++
		w.m.items = append(w.m.items, item{
			q: message.Queue{Topic: message.TopicTopics}, text: name, size: len(name), deletes: name, group: w.m.groups, pos: -1,
			before: w.m.topics[name],
		})
		w.m.topics[name] = []*store.Topic{nil}
		for gq := range w.m.offsets {
			if gq.q.Topic == name && w.last(gq.group, gq.q) >= 0 {
				w.may(gq.group, gq.q, -1)
			}
		}
	})
	if err := w.s.DeleteTopic(ctx, name); err != nil {
		return err
	}
	w.m.do(func() {
		n := len(w.m.items)
		w.m.items[n-1].pos = w.s.Log().LastMark().Offset - 1 // any place in it will do
		w.m.safe, w.m.kept = n, n
		for gq := range w.m.offsets {
			if gq.q.Topic == name {
				w.m.offsets[gq] = []int64{-1}
			}
		}
		w.answers()
	})
	return nil
}

// retain lets retention work, and sees that it spares what a group needs.
func (w *work) retain() error {
	if w.rnd.IntN(2) == 0 {
		w.clock.Advance(2 * retention)
	}
	segs := w.s.Log().Segments()
	if len(segs) == 0 {
		return nil
	}
	w.m.do(func() { w.m.mayStart = segs[len(segs)-1].Base })
	needed := w.needed()
	if err := w.s.Retain(); err != nil {
		return err
	}
	start := w.s.Log().Start()
	if start > needed && !w.force {
		return wrongf("retention dropped the log below %d, and a group needs %d", start, needed)
	}
	w.m.do(func() {
		if start > w.m.start {
			w.c.add("expired", 1)
		}
		w.m.start, w.m.mayStart = start, start
	})
	return nil
}

// needed is the lowest position that a group has not settled.
func (w *work) needed() int64 {
	lowest := int64(1) << 62
	want := w.m.expected(len(w.m.items), w.m.expired(w.m.start))
	for gq := range w.m.offsets {
		offset := w.last(gq.group, gq.q)
		c := want[gq.q]
		if offset < 0 || w.now(gq.q.Topic) == nil || max(offset, c.start) >= c.end() {
			continue
		}
		if p := w.m.items[c.items[max(offset, c.start)-c.start]].pos; p >= 0 {
			lowest = min(lowest, p)
		}
	}
	return lowest
}

// reopen closes the store and opens it again.
func (w *work) reopen() error {
	root := w.s.Root()
	if err := w.s.Close(); err != nil {
		return err
	}
	w.m.do(func() {
		w.answers()
		w.m.flushed()
		w.m.safe, w.m.kept = len(w.m.items), len(w.m.items)
	})
	if err := w.open(root); err != nil {
		return err
	}
	if rec := w.s.Stats().Recovery; !rec.Clean || rec.Replayed > 0 || len(rec.Rebuilt) > 0 {
		return wrongf("a clean close was not found clean: %+v", rec)
	}
	w.c.add("closed and opened", 1)
	return w.m.settle(w.s, len(w.m.items), w.law)
}

// look compares one queue with what must be visible in it now.
func (w *work) look() error {
	q, _, _, ok := w.queue()
	if !ok {
		return nil
	}
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	w.answers()
	n := w.m.visible(w.s.Log().Visible())
	return w.m.matchQueue(w.s, q, w.m.wanted(n))
}

// How many copies of the machine an epoch gives: some in Open, if it does so
// much, and some later.
const (
	imagesOfOpen = 2
	images       = 8
)

// crashed is a machine that died, and what the model and the law knew then.
type crashed struct {
	sim    *crash.Sim
	m      *model
	law    *law
	inOpen bool
}

// epoch opens the store on sim, works, and returns the machines that died on
// the way, in front of and in the middle of operations of Open and after it.
func (w *work) epoch(sim *crash.Sim, need int) (dead []crashed, err error) {
	t := &tap{sim: sim, picks: map[int]bool{}}
	pick := func(from, span int) { t.picks[from+1+w.rnd.IntN(span)] = w.rnd.IntN(2) == 0 }
	for range imagesOfOpen {
		pick(0, 60)
	}
	opening := true
	t.crash = func(c *crash.Sim) {
		dead = append(dead, crashed{c, w.m.clone(), w.law.clone(), opening})
	}
	w.law.watch(sim)
	if err := w.open(t.fs()); err != nil {
		return nil, err
	}
	until := t.done() + 100 + w.rnd.IntN(300)
	t.do(func() {
		opening = false
		for range images {
			pick(t.ops, until-t.ops)
		}
	})
	err = w.m.settle(w.s, need, w.law)
	for err == nil && t.done() < until {
		err = w.run(1)
	}
	t.do(func() { t.picks = nil })
	w.law.report(w.c)
	if err != nil {
		_ = w.s.Abandon()
		return nil, err
	}
	if w.rnd.IntN(4) == 0 {
		if err := w.s.Close(); err != nil {
			return nil, err
		}
		m := w.m.clone()
		m.flushed()
		m.safe, m.kept = len(m.items), len(m.items)
		return append(dead, crashed{sim.Kill(), m, w.law.clone(), false}), nil
	}
	return dead, w.s.Abandon()
}
