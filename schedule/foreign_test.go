package schedule

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/kv/kvtest"
	"github.com/embermq/embermq/message"
)

func prop(name, value string) message.Property { return message.Property{Name: name, Value: value} }

// java writes records as RocketMQ does: without EMBER_ properties, and with what
// waited still in what is delivered.
func (r *rig) javaTimer(topic, id string, due time.Time, more ...message.Property) {
	r.log.write(message.Queue{Topic: message.TopicTimer}, &message.Message{Body: []byte(id)},
		append(more, prop(message.PropRealTopic, topic), prop(message.PropRealQueue, "0"),
			prop(message.PropTimerOutMs, strconv.FormatInt(due.UnixMilli(), 10)), prop(message.PropUniqKey, id))...)
}

func (r *rig) javaLevel(topic, id string, level int) {
	r.log.write(message.Queue{Topic: message.TopicSchedule, ID: int32(min(level, 18) - 1)}, &message.Message{Body: []byte(id)},
		prop(message.PropRealTopic, topic), prop(message.PropRealQueue, "0"),
		prop(message.PropDelay, strconv.Itoa(level)), prop(message.PropUniqKey, id))
}

func (r *rig) javaDelivers(topic, id string, due time.Time) {
	r.log.write(message.Queue{Topic: topic}, &message.Message{Body: []byte("java " + id)},
		prop(message.PropRealTopic, topic), prop(message.PropTimerOutMs, strconv.FormatInt(due.UnixMilli(), 10)), prop(message.PropUniqKey, id))
}

// Another program worked on the log between two opens: what it delivered or
// cancelled is not delivered again, wherever our timer lies.
func TestForeignEnds(t *testing.T) {
	for _, saved := range []bool{false, true} {
		t.Run(fmt.Sprintf("saved=%t", saved), func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.Near = 2 })
			due := map[int]time.Time{}
			var ids []message.TimerID
			for i := range 10 {
				due[i] = day.Add(time.Duration(i+1) * time.Minute)
				ids = append(ids, r.after("t", fmt.Sprint(i), due[i].Sub(day)))
			}
			if saved {
				require.NoError(t, r.save())
			}
			require.NoError(t, r.Close())
			r.log.apply = nil
			r.javaDelivers("t", string(ids[0]), due[0])
			r.javaDelivers("t", string(ids[8]), due[8])
			r.javaDelivers("other", string(ids[5]), due[5]) // not its topic
			r.log.write(message.Queue{Topic: message.TopicTimer}, &message.Message{Body: []byte("0")},
				prop(message.PropRealTopic, "t"), prop(message.PropTimerDelUniq, "t+"+string(ids[7])),
				prop(message.PropTimerOutMs, strconv.FormatInt(due[7].UnixMilli(), 10)))
			r.log.write(message.Queue{Topic: message.TopicTimer}, &message.Message{Body: []byte("0")},
				prop(message.PropRealTopic, "t"), prop(message.PropTimerDelUniq, "t+"+string(ids[6])),
				prop(message.PropTimerOutMs, strconv.FormatInt(due[7].UnixMilli(), 10))) // another slot: no effect
			require.NoError(t, r.open())
			require.EqualValues(t, 7, r.Timers().Len())
			how, err := r.Timers().Cancel(bg, ids[8])
			require.NoError(t, err)
			require.Equal(t, Delivered, how)
			require.NoError(t, r.runUntil(day.Add(time.Hour)))
			var ours []string
			for _, b := range r.bodies() {
				if len(b) == 1 {
					ours = append(ours, b)
				}
			}
			require.Equal(t, []string{"1", "2", "3", "4", "5", "6", "9"}, ours)
		})
	}
}

func TestForeignWaiting(t *testing.T) {
	r := newRig(t)
	r.javaLevel("t", "level 99", 99)
	r.javaTimer("t", "rolled", day.Add(time.Minute))
	r.javaTimer("t", "rolled", day.Add(time.Minute), prop(message.PropTimerRollTimes, "1"))
	r.javaTimer(message.TopicHalf, "half", day.Add(time.Minute))
	r.javaTimer("", "nowhere", day.Add(time.Minute))
	require.EqualValues(t, 2, r.Stats().Ignored)
	require.EqualValues(t, 2, r.Timers().Len())
	how, err := r.Timers().Cancel(bg, "level 99")
	require.NoError(t, err)
	require.Equal(t, Unknown, how, "levels have no handle")
	var ids []message.TimerID
	for tm := range r.Timers().Pending("", time.Time{}, time.Time{}) {
		ids = append(ids, tm.ID)
	}
	require.Equal(t, []message.TimerID{"rolled", ""}, ids)
	require.NoError(t, r.runUntil(day.Add(3*time.Hour)))
	require.Equal(t, []string{"rolled", "level 99"}, r.bodies())
	require.Equal(t, day.Add(2*time.Hour).UnixMilli(), r.log.deliveries()[1].StoredAtMillis())
}

func TestImport(t *testing.T) {
	r := newRig(t)
	r.log.apply = nil
	for i := range 3 {
		r.javaLevel("t", fmt.Sprintf("l%d", i), 1)
		r.javaLevel("t", fmt.Sprintf("m%d", i), 2)
		r.javaTimer("t", fmt.Sprintf("t%d", i), day.Add(time.Duration(i-1)*time.Hour))
	}
	table, _ := ParseLevels("")
	foreign := r.log.end
	for name, c := range map[string]struct {
		rule Import
		want []string
	}{
		"no files":            {Import{Now: day.UnixMilli()}, []string{"l0", "l1", "l2", "m0", "m1", "m2", "t1", "t2"}},
		"level offsets":       {Import{Levels: []int64{2, 99}, Now: day.UnixMilli()}, []string{"l2", "t1", "t2"}},
		"wheel read":          {Import{Levels: []int64{3, 3}, Checked: true, LastRead: day.Add(time.Minute).UnixMilli(), QueueOffset: 3}, []string{"t2"}},
		"wheel queue behind":  {Import{Levels: []int64{3, 3}, Checked: true, LastRead: day.Add(5 * time.Hour).UnixMilli(), QueueOffset: 2}, []string{"t2"}},
		"behind the import":   {Import{End: 1, Levels: []int64{3, 3}, Now: day.Add(9 * time.Hour).UnixMilli()}, []string{"l1", "l2", "m0", "m1", "m2", "t0", "t1", "t2"}},
		"clamped past bounds": {Import{Levels: []int64{-7, 3}, Checked: true, LastRead: 1 << 50, QueueOffset: 9}, []string{"l0", "l1", "l2"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.rule.End == 0 {
				c.rule.End = foreign
			}
			c.rule.ClampLevels(func(q message.Queue) (int64, int64) { return 0, r.log.offsets[q] })
			b, err := c.rule.AppendBinary(nil)
			require.NoError(t, err)
			rule, err := ParseImport(b, table)
			require.NoError(t, err)
			in := &rig{t: t, clock: r.clock, disk: kvtest.New(), log: r.log.cut(len(r.log.recs)), ids: r.ids, o: r.o}
			if name == "behind the import" {
				rule.Levels[0] = 0
				c.want = append([]string{"l0"}, c.want...)
			}
			in.o.Foreign = rule.Waits
			require.NoError(t, in.open())
			defer in.Close()
			var got []string
			for tm, err := range in.Timers().Pending("", time.Time{}, time.Time{}) {
				require.NoError(t, err)
				var rec message.Record
				_, err := in.log.read(tm.Position, in.size(tm.Position), nil, &rec)
				require.NoError(t, err)
				got = append(got, string(rec.Body()))
			}
			require.ElementsMatch(t, c.want, got)
			require.EqualValues(t, 9-len(c.want), in.Stats().LeftOut)
		})
	}
	_, err := ParseImport([]byte{1}, table)
	require.ErrorIs(t, err, message.ErrCorrupt)
}

func (r *rig) size(pos int64) int {
	for _, rec := range r.log.recs {
		if rec.pos == pos {
			return len(rec.b)
		}
	}
	return 0
}

// Another table does not move messages that wait.
func TestLevelTableChanges(t *testing.T) {
	r := newRig(t)
	r.put(&message.Message{Topic: "t", Body: []byte("x"), DelayLevel: 3})
	require.NoError(t, r.Close())
	r.o.Levels = Levels{time.Hour}
	require.NoError(t, r.open())
	require.NoError(t, r.runUntil(day.Add(10*time.Second)))
	require.Equal(t, []string{"x"}, r.bodies())
}
