package schedule

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

// Whatever lies on disk: a row that parses is written the same again.
func FuzzRows(f *testing.F) {
	t := &timer{key: key{5, 6}, id: ident{1}, topic: &topic{name: "t"}, size: 99, flags: flagLevel}
	f.Add(timerKey(nil, t.key), appendTimer(nil, t))
	tr := topicRow{"t", 3, 4}
	f.Add([]byte(prefixTopic+"t"), tr.append(nil))
	mr := markRow{message.Mark{Offset: 7, Fingerprint: 8}, -1, key{1, 2}}
	f.Add([]byte(keyMark), mr.append(nil))
	f.Add(idKey(nil, t.id, t.key), []byte{})
	f.Add([]byte(prefixBucket+"\x00\x00\x00\x00\x00\x00\x00\x01"), []byte{1, 0, 0, 0, 0, 0, 0, 0, 1})
	im := Import{End: 1, Levels: []int64{2, 3}, Checked: true}
	b, _ := im.AppendBinary(nil)
	f.Add([]byte{}, b)
	f.Fuzz(func(t *testing.T, k, v []byte) {
		if r, err := parseTimer(k, v, "x"); err == nil {
			tm := &timer{key: r.key, id: r.id, topic: &topic{name: r.topic}, size: r.size, flags: r.flags}
			require.Equal(t, k, timerKey(nil, r.key))
			require.Equal(t, v, appendTimer(nil, tm))
		} else {
			require.ErrorIs(t, err, message.ErrCorrupt)
		}
		if r, err := parseTopic(k, v); err == nil {
			require.Equal(t, v, r.append(nil))
		}
		if r, err := parseMark(k, v); err == nil {
			require.Equal(t, v, r.append(nil))
		}
		if i, at, ok := parseID(k); ok {
			require.Equal(t, k, idKey(nil, i, at))
		}
		if _, n, err := parseBucket(k, v); err == nil {
			require.Positive(t, n)
		}
		if i, err := ParseImport(v, nil); err == nil {
			b, err := i.AppendBinary(nil)
			require.NoError(t, err)
			require.Equal(t, v, b)
		}
	})
}

// No record, whatever its properties, upsets a Schedule.
func FuzzApply(f *testing.F) {
	for _, topic := range []string{message.TopicTimer, message.TopicSchedule, message.TopicTopics, "t"} {
		f.Add(topic, "t", "0", "1772366400000", "ID", "3", "0000000000000000", "0", "t+ID")
		f.Add(topic, "", "-1", "-5", "", "x", "00000000000000010000000000000002", "1", "")
	}
	f.Fuzz(func(t *testing.T, topic, real, qid, out, id, delay, own, roll, del string) {
		r := newRig(t)
		var props []message.Property
		add := func(name, value string, own bool) {
			if value != "" && !bytes.ContainsAny([]byte(value), "\x01\x02") && len(value) < 1000 {
				props = append(props, message.Property{Name: name, Value: value, Own: own})
			}
		}
		add(message.PropRealTopic, real, false)
		add(message.PropRealQueue, qid, false)
		add(message.PropTimerOutMs, out, false)
		add(message.PropUniqKey, id, false)
		add(message.PropDelay, delay, false)
		add(message.PropTimer, own, true)
		add(message.PropCarries, own, true)
		add(message.PropDue, own, true)
		add(message.PropDeletes, real, true)
		add(message.PropTimerRollTimes, roll, false)
		if len(del)%2 == 1 {
			add(message.PropTimerDelUniq, del, false)
		}
		if topic == "" || len(topic) > 100 {
			topic = "t"
		}
		r.after("t", "first", 1)
		for range 3 {
			var d message.Draft
			if d.Encode(&message.Message{Body: []byte("x")}, message.Queue{Topic: topic}, &message.Envelope{Reserved: props}) != nil {
				return
			}
			r.log.writeLocked(&d, message.Queue{Topic: topic}, true)
		}
		require.NoError(t, r.save())
		require.GreaterOrEqual(t, r.Timers().Len(), int64(0))
		for _, err := range r.Timers().Pending("", day.AddDate(-100, 0, 0), day.AddDate(0, 0, 1)) {
			require.NoError(t, err)
		}
	})
}
