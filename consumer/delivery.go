package consumer

import (
	"strconv"
	"strings"

	"github.com/embermq/embermq/message"
)

// Delivery is one hand-over of a stored message. The record's bytes are the
// receiver's: they may be kept, and are freed with the last of the deliveries that
// were read together.
type Delivery struct {
	*message.Record

	topic    string
	attempt  int
	expireAt int64 // milliseconds; 0 is never
	ordered  bool  // what follows it must not overtake it
}

// Topic is the topic that the message was sent to, also for a retry, whose record
// lies in the group's retry topic. Record.Topic tells where that is.
func (d *Delivery) Topic() string { return d.topic }

// Attempt is the number of this delivery to the group: 1 for the first.
func (d *Delivery) Attempt() int { return d.attempt }

// OriginID names the message through all its retries: the id of its first record
// if that had one, otherwise its own UniqueID, which may be empty.
func (d *Delivery) OriginID() string {
	if id, ok := d.Property(message.PropOriginID); ok {
		return id
	}
	return d.UniqueID()
}

// fill makes d the delivery of r after failed attempts in place.
func (d *Delivery) fill(r *message.Record, topic string, failed int) {
	d.Record = r
	d.topic = topic
	d.attempt = r.Attempt() + failed
	if strings.HasPrefix(topic, message.PrefixRetry) {
		if origin, ok := r.Property(message.PropRetryTopic); ok {
			d.topic = origin
		}
	}
	if text, ok := r.Property(message.PropExpire); ok {
		if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms > 0 {
			d.expireAt = ms
		}
	}
}
