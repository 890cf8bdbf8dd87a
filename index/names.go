package index

import (
	"strconv"
	"time"
)

// nameLen is the length of yyyyMMddHHmmssSSS.
const nameLen = 17

const nameLayout = "20060102150405.000"

// parseName returns a file name as a number; numbers order as the names do.
func parseName(s string) (int64, bool) {
	if len(s) != nameLen {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		c := s[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + int64(c)
	}
	return n, n > 0
}

func formatName(n int64) string {
	s := strconv.FormatInt(n, 10)
	for len(s) < nameLen {
		s = "0" + s
	}
	return s
}

// nextName names a file made at now: RocketMQ's local time, or one millisecond
// more than the last name where the clock does not lead further. A clock that is
// set back and the hour that autumn repeats both come to that. Sorting by name is
// all that RocketMQ does with it.
func nextName(now time.Time, loc *time.Location, last int64) int64 {
	n := nameOf(now.In(loc))
	if n > last {
		return n
	}
	t, err := time.Parse(nameLayout, formatName(last)[:14]+"."+formatName(last)[14:])
	if err != nil {
		return last + 1
	}
	return nameOf(t.Add(time.Millisecond))
}

func nameOf(t time.Time) int64 {
	y, m, d := t.Date()
	day := int64(y)*10_000 + int64(m)*100 + int64(d)
	clock := int64(t.Hour())*10_000 + int64(t.Minute())*100 + int64(t.Second())
	return (day*1_000_000+clock)*1000 + int64(t.Nanosecond()/1e6)
}
