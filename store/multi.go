package store

import (
	"strconv"
	"strings"

	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/message"
)

// A record that RocketMQ dispatches to several queues names them in
// INNER_MULTI_DISPATCH, and the offsets that it got there in
// INNER_MULTI_QUEUE_OFFSET, both separated by commas. Only RocketMQ writes such
// records, so only those in foreign ranges are obeyed.

const prefixLight = "%LMQ%" // such a topic has one queue, 0

// alsoIn calls f for every further queue that a foreign record belongs to, with
// its offset there, until f returns false.
func alsoIn(r *message.Record, f func(q message.Queue, offset int64) bool) {
	names, ok := r.Property(message.PropInnerDispatch)
	if !ok || !multiTopic(r.Topic()) {
		return
	}
	offsets, _ := r.Property(message.PropInnerOffset)
	if strings.Count(names, ",") != strings.Count(offsets, ",") {
		return
	}
	for name := range strings.SplitSeq(names, ",") {
		var text string
		text, offsets, _ = strings.Cut(offsets, ",")
		offset, err := strconv.ParseInt(text, 10, 64)
		q := message.Queue{Topic: name, ID: r.QueueID()}
		if strings.HasPrefix(name, prefixLight) {
			q.ID = 0
		}
		if err != nil || offset < 0 || message.CheckTopic(name) != nil || message.IsSystemTopic(name) {
			continue
		}
		if !f(q, offset) {
			return
		}
	}
}

// multiTopic reports whether RocketMQ dispatches records of a topic to further
// queues.
func multiTopic(topic string) bool {
	return !strings.HasPrefix(topic, message.PrefixRetry) && !strings.HasPrefix(topic, "rmq_sys_") && topic != message.TopicSchedule
}

// replayMulti adds the entries of a foreign record in its further queues.
func (d *dispatcher) replayMulti(r *message.Record, e consumequeue.Entry) (err error) {
	alsoIn(r, func(name message.Queue, offset int64) bool {
		var q *queue
		if !d.topics.alive(name.Topic, r.Position()) {
			return true
		}
		if q, err = d.topics.replayHome(name); err != nil {
			return false
		}
		if _, end := q.entries.Bounds(); offset == end {
			q.entries.Append(offset, e)
		} else {
			q.entries.AppendAtEnd(e)
		}
		return true
	})
	return err
}

// inQueue reports whether a foreign record belongs to a queue, its own or another.
func inQueue(r *message.Record, name message.Queue) bool {
	found := r.QueueID() == name.ID && r.Topic() == name.Topic
	if !found {
		alsoIn(r, func(q message.Queue, _ int64) bool {
			found = q == name
			return !found
		})
	}
	return found
}
