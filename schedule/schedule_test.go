package schedule

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/kv/kvtest"
	"github.com/embermq/embermq/message"
)

func TestLevels(t *testing.T) {
	l, err := ParseLevels("")
	require.NoError(t, err)
	require.Len(t, l, 18)
	require.Equal(t, DefaultLevels, l.String())
	require.Equal(t, 2*time.Hour, l.Delay(18))
	require.Equal(t, 2*time.Hour, l.Delay(99), "a foreign level is clamped")
	require.Zero(t, l.Delay(0))
	require.Equal(t, int64(1000+5000), l.EntryTag(1, 1000))
	for _, bad := range []string{" ", "1", "s", "1x", "-1s", "0s", "1s 2", "99999999999d", strings.Repeat("1s ", 256)} {
		_, err := ParseLevels(bad)
		require.Error(t, err, "%q", bad)
	}
	l, err = ParseLevels("90s 2d")
	require.NoError(t, err)
	require.Equal(t, "90s 2d", l.String())
}

func TestRoute(t *testing.T) {
	l, _ := ParseLevels("")
	id := func() string { return "ID" }
	for name, c := range map[string]struct {
		m    message.Message
		kind RouteKind
		due  time.Time
		bad  string
	}{
		"plain":             {m: message.Message{}},
		"level":             {m: message.Message{DelayLevel: 3}, kind: ByLevel, due: day.Add(10 * time.Second)},
		"delay":             {m: message.Message{Delay: time.Hour}, kind: ByTime, due: day.Add(time.Hour)},
		"delay rounds up":   {m: message.Message{Delay: time.Microsecond}, kind: ByTime, due: day.Add(time.Millisecond)},
		"far":               {m: message.Message{DeliverAt: day.AddDate(5000, 0, 0)}, kind: ByTime, due: day.AddDate(5000, 0, 0)},
		"past":              {m: message.Message{DeliverAt: day.Add(-time.Hour)}},
		"now":               {m: message.Message{DeliverAt: day}},
		"before 1970":       {m: message.Message{DeliverAt: time.Date(-300000000, 1, 1, 0, 0, 0, 0, time.UTC)}},
		"negative delay":    {m: message.Message{Delay: -1}, bad: "Delay"},
		"negative level":    {m: message.Message{DelayLevel: -1}, bad: "DelayLevel"},
		"level over table":  {m: message.Message{DelayLevel: 19}, bad: "DelayLevel"},
		"level and time":    {m: message.Message{DelayLevel: 1, Delay: 1}, bad: "Delay"},
		"two times":         {m: message.Message{DeliverAt: day, Delay: 1}, bad: "Delay"},
		"past milliseconds": {m: message.Message{DeliverAt: time.Unix(math.MaxInt64/1000, 0)}, bad: "DeliverAt"},
		"system topic":      {m: message.Message{Topic: message.TopicTimer, Delay: 1}, bad: "Topic"},
		"system topic past": {m: message.Message{Topic: message.TopicHalf, DeliverAt: day}, bad: "Topic"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.m.Topic == "" {
				c.m.Topic = "orders"
			}
			r, err := l.Route(&c.m, day, id, nil)
			if c.bad != "" {
				var bad *message.InvalidError
				require.ErrorAs(t, err, &bad)
				require.ErrorIs(t, err, message.ErrInvalidMessage)
				require.Equal(t, c.bad, bad.Field)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.kind, r.Kind)
			if c.kind == Immediate {
				require.Equal(t, "orders", r.Queue.Topic)
				return
			}
			require.Equal(t, c.due.UnixMilli(), r.Due)
			require.Equal(t, c.kind == ByTime, r.Timer == "ID")
		})
	}
}

// What the waiting record and the delivered one look like.
func TestRecords(t *testing.T) {
	r := newRig(t)
	m := &message.Message{Topic: "orders", QueueID: 3, Tag: "a", Keys: []string{"k"}, Body: []byte("x"),
		Properties: map[string]string{"colour": "red"}, DelayLevel: 2}
	level, _ := r.put(m)
	m.DelayLevel, m.Delay = 0, 40*24*time.Hour
	timer, ro := r.put(m)
	w := parse(r.log.recs[0].b)
	require.Equal(t, message.Queue{Topic: message.TopicSchedule, ID: 1}, w.Queue())
	tag, ok := r.o.levels().RecordTag(w)
	require.True(t, ok)
	require.Equal(t, day.Add(5*time.Second).UnixMilli(), tag)
	due, ok := w.OwnValue(message.PropDue)
	require.True(t, ok)
	require.Equal(t, message.Hex16(day.Add(5*time.Second).UnixMilli()), due)
	w = parse(r.log.recs[1].b)
	require.Equal(t, message.Queue{Topic: message.TopicTimer}, w.Queue())
	require.Equal(t, string(ro.Timer), w.UniqueID())

	require.EqualValues(t, 2, r.Timers().Len())
	require.NoError(t, r.runUntil(day.AddDate(0, 0, 41)))
	require.Zero(t, r.Timers().Len())
	out := r.log.deliveries()
	require.Len(t, out, 2)
	for i, pos := range []int64{level.Position, timer.Position} {
		require.Equal(t, message.Queue{Topic: "orders", ID: 3}, out[i].Queue())
		got := map[string]string{}
		for k, v := range out[i].Properties() {
			got[k] = v
		}
		k, ok := ends(out[i])
		require.True(t, ok)
		require.Equal(t, pos, k.pos)
		require.Equal(t, out[i].StoredAtMillis(), k.due, "delivered in its millisecond")
		delete(got, message.PropTimer)
		delete(got, message.PropCRC)
		want := map[string]string{"TAGS": "a", "KEYS": "k", "colour": "red"}
		if i == 1 {
			want["UNIQ_KEY"] = string(ro.Timer)
		}
		require.Equal(t, want, got)
		require.Equal(t, day.UnixMilli(), out[i].BornAt().UnixMilli())
	}
}

func (o *Options) levels() Levels { l, _ := ParseLevels(""); return l }

func TestOrderAndMillisecond(t *testing.T) {
	r := newRig(t)
	r.after("t", "c", 3*time.Millisecond)
	r.after("t", "a", time.Millisecond)
	r.after("t", "d", 3*time.Millisecond)
	r.after("t", "b", 2*time.Millisecond)
	r.clock.Advance(time.Millisecond - 1)
	r.steps()
	require.Empty(t, r.bodies(), "early")
	r.clock.Advance(1)
	r.steps()
	require.Equal(t, []string{"a"}, r.bodies())
	r.clock.Advance(time.Second)
	r.steps()
	require.Equal(t, []string{"a", "b", "c", "d"}, r.bodies())
}

func TestCancel(t *testing.T) {
	r := newRig(t)
	tm := r.Timers()
	id := r.after("t", "x", time.Hour)
	kept := r.after("t", "y", time.Hour)
	how, err := tm.Cancel(bg, id)
	require.NoError(t, err)
	require.Equal(t, Cancelled, how)
	w := parse(r.log.recs[2].b)
	del, _ := w.Property(message.PropTimerDelUniq)
	require.Equal(t, "t+"+string(id), del)
	require.Equal(t, "_RECALL_TAG_", w.Tag())
	require.Equal(t, "0", string(w.Body()))
	require.Equal(t, 3, r.log.synced, "cancelled means on disk")
	how, err = tm.Cancel(bg, id)
	require.NoError(t, err)
	require.Equal(t, Cancelled, how)
	require.NoError(t, r.runUntil(day.Add(2*time.Hour)))
	require.Equal(t, []string{"y"}, r.bodies())
	for want, id := range map[Outcome]message.TimerID{Delivered: kept, Unknown: "nobody", Cancelled: id} {
		how, err = tm.Cancel(bg, id)
		require.NoError(t, err)
		require.Equal(t, want, how)
	}
	how, err = tm.Cancel(bg, "")
	require.NoError(t, err)
	require.Equal(t, Unknown, how)
}

func TestCancelFailure(t *testing.T) {
	r := newRig(t)
	id := r.after("t", "x", time.Hour)
	r.log.fail = func(*Group) error { return message.ErrDiskFull }
	_, err := r.Timers().Cancel(bg, id)
	require.ErrorIs(t, err, message.ErrDiskFull)
	r.log.fail = nil
	require.NoError(t, r.runUntil(day.Add(2*time.Hour)))
	require.Equal(t, []string{"x"}, r.bodies(), "a cancel that failed leaves the timer pending")
}

// A caller that leaves does not leave the timer in between.
func TestCancelAbandoned(t *testing.T) {
	r := newRig(t)
	id := r.after("t", "x", time.Hour)
	r.log.entered, r.log.gate = make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(bg)
	result := make(chan error)
	go func() { _, err := r.Timers().Cancel(ctx, id); result <- err }()
	<-r.log.entered
	cancel()
	require.ErrorIs(t, <-result, context.Canceled)
	second := make(chan Outcome)
	go func() { how, _ := r.Timers().Cancel(bg, id); second <- how }()
	r.log.gate <- struct{}{}
	require.Equal(t, Cancelled, <-second)
}

// Cancel waits for a delivery under way, and tells its end.
func TestCancelWhileFiring(t *testing.T) {
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprintf("append fails=%t", fails), func(t *testing.T) {
			r := newRig(t)
			id := r.after("t", "x", time.Second)
			r.clock.Advance(time.Second)
			r.log.entered, r.log.gate = make(chan struct{}, 2), make(chan struct{})
			if fails {
				r.log.fail = func(*Group) error { r.log.fail = nil; return message.ErrDiskFull }
			}
			stepped, answer := make(chan error), make(chan Outcome)
			go func() { _, err := r.Step(bg); stepped <- err }()
			<-r.log.entered
			go func() { how, _ := r.Timers().Cancel(bg, id); answer <- how }()
			r.log.gate <- struct{}{}
			if !fails {
				require.NoError(t, <-stepped)
				require.Equal(t, Delivered, <-answer)
				return
			}
			require.Error(t, <-stepped)
			<-r.log.entered
			r.log.gate <- struct{}{}
			require.Equal(t, Cancelled, <-answer)
			require.Empty(t, r.bodies())
		})
	}
}

func TestReschedule(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Near = 4 })
	id := r.after("t", "x", time.Hour)
	for i := range 20 {
		r.after("t", fmt.Sprint(i), time.Duration(i)*time.Second+1)
	}
	require.NoError(t, r.save())
	how, err := r.Timers().Reschedule(bg, id, day.Add(30*time.Second))
	require.NoError(t, err)
	require.Equal(t, Rescheduled, how)
	require.EqualValues(t, 21, r.Timers().Len())
	require.NoError(t, r.runUntil(day.Add(31*time.Second)))
	require.Equal(t, "x", r.bodies()[20])
	how, err = r.Timers().Reschedule(bg, id, day.Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, Delivered, how)
	id = r.after("t", "past", time.Hour)
	_, err = r.Timers().Reschedule(bg, id, day)
	require.NoError(t, err)
	r.steps()
	require.Equal(t, "past", r.bodies()[21])
	_, err = r.Timers().Reschedule(bg, id, time.Unix(math.MaxInt64/1000, 0))
	require.ErrorIs(t, err, message.ErrInvalidMessage)
}

func TestPending(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Near = 8 })
	var ids []message.TimerID
	for i := range 100 {
		ids = append(ids, r.after([]string{"even", "odd"}[i%2], "x", time.Duration(i+1)*time.Second))
		if i == 60 {
			require.NoError(t, r.save())
		}
	}
	r.put(&message.Message{Topic: "even", DelayLevel: 18})
	_, err := r.Timers().Cancel(bg, ids[40])
	require.NoError(t, err)
	list := func(topic string, from, to time.Time) (out []Timer) {
		for tm, err := range r.Timers().Pending(topic, from, to) {
			require.NoError(t, err)
			out = append(out, tm)
		}
		return out
	}
	all := list("", time.Time{}, time.Time{})
	require.Len(t, all, 100)
	require.Empty(t, all[99].ID)
	require.EqualValues(t, 100, r.Timers().Len())
	require.EqualValues(t, 50, r.Timers().Count("even"))
	require.Len(t, list("odd", time.Time{}, time.Time{}), 50)
	some := list("", day.Add(10*time.Second), day.Add(13*time.Second))
	require.Len(t, some, 3)
	require.Equal(t, ids[9], some[0].ID)
	require.True(t, day.Add(10*time.Second).Equal(some[0].Due))
	for range r.Timers().Pending("", time.Time{}, time.Time{}) {
		break
	}
}

func TestTopicDeletion(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Near = 4 })
	for i := range 20 {
		r.after("gone", "x", time.Duration(i+1)*time.Second)
		r.after("kept", "y", time.Duration(i+1)*time.Second)
		if i == 10 {
			require.NoError(t, r.save())
		}
	}
	id := r.after("gone", "z", time.Second)
	r.deleteTopic("gone")
	require.EqualValues(t, 21, r.Dropped("gone"))
	require.EqualValues(t, 20, r.Timers().Len())
	how, err := r.Timers().Cancel(bg, id)
	require.NoError(t, err)
	require.Equal(t, Unknown, how)
	r.after("gone", "new", time.Minute)
	require.NoError(t, r.runUntil(day.Add(2*time.Minute)))
	require.Len(t, r.bodies(), 21)
	require.Zero(t, r.Timers().Len())
	require.NoError(t, r.save())
	rows, _, err := r.rows(key{}, maxKey, 100)
	require.NoError(t, err)
	require.Empty(t, rows)
}

func (r *rig) deleteTopic(name string) {
	rc := r.log.write(message.Queue{Topic: message.TopicTopics}, &message.Message{Body: []byte(name)},
		message.Property{Name: message.PropDeletes, Value: name, Own: true})
	_ = rc
	r.log.births[name] = r.log.end
}

func TestCarry(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Near = 16 })
	var ids []message.TimerID
	for i := range 100 {
		ids = append(ids, r.after("t", fmt.Sprint(i), time.Duration(i+1)*time.Minute))
		if i%30 == 0 {
			require.NoError(t, r.save())
		}
	}
	r.put(&message.Message{Topic: "t", Body: []byte("level"), DelayLevel: 18})
	before, n := r.log.end, len(r.log.recs)
	late := r.after("t", "late", 3*time.Hour)
	carried, err := r.Carry(bg, before)
	require.NoError(t, err)
	require.Equal(t, 101, carried)
	require.EqualValues(t, 102, r.Timers().Len())
	for i := range n { // the segment goes
		r.log.recs[i].b = nil
	}
	w := parse(r.log.recs[len(r.log.recs)-1].b)
	require.Equal(t, message.TopicTimer, w.Topic())
	how, err := r.Timers().Cancel(bg, ids[7])
	require.NoError(t, err)
	require.Equal(t, Cancelled, how, "the id survives")
	// A rebuild from what is left of the log finds the same.
	r.disk = kvtest.New()
	require.NoError(t, r.Close())
	r.log.recs = r.log.recs[n:]
	require.NoError(t, r.open())
	require.EqualValues(t, 101, r.Timers().Len())
	require.NoError(t, r.runUntil(day.Add(4*time.Hour)))
	got := r.bodies()
	require.Len(t, got, 101)
	require.Equal(t, "late", got[100])
	require.NotContains(t, got, "7")
	_ = late
	require.Zero(t, r.Timers().Len())
}

// A disk that is full only delays, and keeps the order.
func TestDiskFull(t *testing.T) {
	r := newRig(t)
	for i := range 10 {
		r.after("t", fmt.Sprint(i), time.Duration(i)*time.Millisecond+1)
	}
	r.clock.Advance(time.Second)
	r.log.fail = func(*Group) error { return message.ErrDiskFull }
	_, err := r.Step(bg)
	require.ErrorIs(t, err, message.ErrDiskFull)
	worked, err := r.Step(bg)
	require.NoError(t, err)
	require.False(t, worked, "it waits before the next try")
	r.log.fail = nil
	r.clock.Advance(backoffMax)
	r.steps()
	require.Equal(t, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, r.bodies())
}

// One timer that cannot be delivered does not hold up the others.
func TestParked(t *testing.T) {
	r := newRig(t)
	r.after("bad", "b", time.Second)
	r.after("good", "g", time.Second)
	id := r.after("bad", "c", time.Second)
	r.log.fail = func(g *Group) error {
		for i, c := range g.Copies {
			if c.Queue.Topic == "bad" {
				return &CopyError{i, errors.New("no")}
			}
		}
		return nil
	}
	r.clock.Advance(time.Second)
	r.steps()
	require.Equal(t, []string{"g"}, r.bodies())
	require.Equal(t, 2, r.Stats().Parked)
	how, err := r.Timers().Cancel(bg, id)
	require.NoError(t, err)
	require.Equal(t, Cancelled, how)
	r.log.fail = nil
	r.clock.Advance(parkFor)
	r.steps()
	require.Equal(t, []string{"g", "b"}, r.bodies())
}

// Overdue timers come in order and at their rate, and new ones do not wait for
// them.
func TestCatchUp(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Near = 1000 })
	const n = 20_000
	for i := range n {
		r.after("old", fmt.Sprint(n-1-i), time.Duration(n-i)*time.Millisecond)
		if i%5000 == 0 {
			require.NoError(t, r.save())
		}
	}
	require.NoError(t, r.save())
	require.NoError(t, r.Close())
	r.clock.Advance(24 * time.Hour)
	require.NoError(t, r.open())
	opened := r.clock.Now()
	for i := range 50 {
		r.after("new", "n", time.Duration(i)*5*time.Millisecond+1)
	}
	require.NoError(t, r.runUntil(opened.Add(time.Second)))
	old, perTick := 0, map[int64]int{}
	for _, d := range r.log.deliveries() {
		if d.Topic() == "new" {
			k, _ := ends(d)
			require.LessOrEqual(t, d.StoredAtMillis()-k.due, int64(100), "a new timer is late")
			continue
		}
		require.Equal(t, fmt.Sprint(old), string(d.Body()))
		old++
		perTick[(d.StoredAtMillis()-opened.UnixMilli())/100]++
	}
	require.Equal(t, n, old)
	for tick, n := range perTick {
		require.LessOrEqual(t, n, 6500, "in tenth %d", tick)
	}
	require.Greater(t, len(perTick), 3, "too fast")
}

func TestClockJumps(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Near = 8 })
	for i := range 40 {
		r.after("t", fmt.Sprint(i), time.Duration(i+1)*time.Hour)
		if i == 20 {
			require.NoError(t, r.save())
		}
	}
	r.clock.Advance(20 * time.Hour)
	for range 8 {
		r.steps()
		r.clock.Advance(tick)
	}
	require.Len(t, r.bodies(), 20)
	r.clock.Set(day.Add(-365 * 24 * time.Hour))
	r.steps()
	r.after("t", "soon", time.Second)
	r.clock.Advance(time.Second)
	r.steps()
	require.Equal(t, "soon", r.bodies()[20])
	require.NoError(t, r.runUntil(day.Add(365*24*time.Hour)))
	require.Len(t, r.bodies(), 41)
	for i, d := range r.log.deliveries() {
		k, _ := ends(d)
		require.GreaterOrEqual(t, d.StoredAtMillis(), k.due, "delivery %d is early", i)
	}
}

// While saves do not keep up, who brings more is asked to wait: until the next
// freeze, or until a save fails.
func TestCrowded(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Dirty = 10 })
	fill := func() <-chan struct{} {
		for range 19 {
			r.after("t", "x", time.Hour)
		}
		require.Nil(t, r.Crowded())
		require.True(t, r.NeedsSave())
		r.after("t", "x", time.Hour)
		room := r.Crowded()
		require.NotNil(t, room)
		select {
		case <-room:
			require.Fail(t, "there is no room yet")
		default:
		}
		return room
	}
	room := fill()
	save := r.Freeze(r.log.mark())
	<-room
	require.Nil(t, r.Crowded())
	room = fill() // beside the save
	require.NoError(t, save())
	require.NotNil(t, r.Crowded())
	save = r.Freeze(r.log.mark())
	<-room
	require.NoError(t, save())
}
