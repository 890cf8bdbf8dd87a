package schedule

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/embermq/embermq/message"
)

// DefaultLevels is RocketMQ's table.
const DefaultLevels = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h"

// maxLevels bounds the table: each level is a queue.
const maxLevels = 255

// Levels is the table of delay levels: the first element is level 1.
type Levels []time.Duration

// ParseLevels reads a table such as DefaultLevels: numbers with a unit s, m, h
// or d, separated by blanks. The empty text is DefaultLevels.
func ParseLevels(text string) (Levels, error) {
	if text == "" {
		text = DefaultLevels
	}
	fields := strings.Fields(text)
	if len(fields) == 0 || len(fields) > maxLevels {
		return nil, fmt.Errorf("schedule: %d delay levels, want 1 to %d", len(fields), maxLevels)
	}
	l := make(Levels, len(fields))
	for i, f := range fields {
		d, err := parseDelay(f)
		if err != nil {
			return nil, fmt.Errorf("schedule: delay level %d: %w", i+1, err)
		}
		l[i] = d
	}
	return l, nil
}

func parseDelay(s string) (time.Duration, error) {
	unit, ok := units[s[len(s)-1]]
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	if !ok || err != nil {
		return 0, fmt.Errorf("%q is not a number with one of the units s m h d", s)
	}
	if n == 0 || n > uint64(math.MaxInt64/unit) {
		return 0, fmt.Errorf("%q is out of range", s)
	}
	return time.Duration(n) * unit, nil
}

var units = map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}

// String is the table as ParseLevels reads it.
func (l Levels) String() string {
	var b strings.Builder
	for i, d := range l {
		if i > 0 {
			b.WriteByte(' ')
		}
		unit := byte('s')
		for _, u := range []byte{'d', 'h', 'm'} {
			if d%units[u] == 0 {
				unit = u
				break
			}
		}
		b.WriteString(strconv.FormatInt(int64(d/units[unit]), 10))
		b.WriteByte(unit)
	}
	return b.String()
}

// Delay is the delay of a level. One over the table is the last level, one
// below 1 no delay: that is how a foreign log is read.
func (l Levels) Delay(level int) time.Duration {
	if level < 1 || len(l) == 0 {
		return 0
	}
	return l[min(level, len(l))-1]
}

// EntryTag is what RocketMQ keeps in the queue entry of a message delayed by
// level instead of the tag's hash: the store time and the delay, in
// milliseconds. The record lies in queue level-1 of the schedule topic.
func (l Levels) EntryTag(queueID int32, storedAt int64) int64 {
	return storedAt + l.Delay(int(queueID)+1).Milliseconds()
}

// RecordTag is EntryTag for a stored record, and false for a record whose entry
// has the hash of its tag as usual.
func (l Levels) RecordTag(r *message.Record) (tag int64, ok bool) {
	if r.Topic() != message.TopicSchedule {
		return 0, false
	}
	level, ok := levelOf(r)
	if !ok {
		return 0, false
	}
	return r.StoredAtMillis() + l.Delay(level).Milliseconds(), true
}

// levelOf reads the level that a record was delayed by.
func levelOf(r *message.Record) (int, bool) {
	text, ok := r.Property(message.PropDelay)
	if !ok {
		return 0, false
	}
	level, err := strconv.Atoi(text)
	return level, err == nil && level > 0
}
