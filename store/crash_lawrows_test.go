package store_test

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/embermq/embermq/message"
)

// What the law reads out of index files and of Pebble's log, as docs/format
// describes them.

// indexStart is where entry 0 of an index file lies, with the slots that are the default.
const indexStart = 40 + 4*65_536

// indexFile reads a header or entries.
func (l *law) indexFile(name string, off int64, p []byte) {
	if off == 0 && len(p) >= 40 {
		l.demandAt(int64(binary.BigEndian.Uint64(p[24:])), "the header of "+name)
	}
	if off < indexStart {
		p, off = p[min(int64(len(p)), indexStart-off):], indexStart
	}
	if skip := (20 - (off-indexStart)%20) % 20; skip < int64(len(p)) {
		for p = p[skip:]; len(p) >= 20; p = p[20:] {
			if position := int64(binary.BigEndian.Uint64(p[4:])); position > 0 {
				l.seen.index++
				l.demandAt(position, "an entry of "+name)
			}
		}
	}
}

// indexState reads ember/index.
func (l *law) indexState(p []byte) {
	if len(p) < 44 || string(p[:8]) != "EMBERIDX" {
		return
	}
	l.mark(p[24:], "the saved index")
	for p = p[40:]; len(p) >= 64+4; p = p[64:] {
		l.demandAt(int64(binary.BigEndian.Uint64(p[8+24:])), "a row of the saved index")
	}
}

// demandAt says that the record at a position must be synced.
func (l *law) demandAt(position int64, what string) {
	l.demand(span{position, position + 1}, "%s about %d", what, position)
}

func (l *law) mark(b []byte, what string) {
	l.seen.marks++
	m := int64(binary.BigEndian.Uint64(b))
	l.demand(span{0, m}, "%s with mark %d", what, m)
}

// rowKinds are the rows of meta that derive from records: how their keys begin,
// how much follows of the key, and what the row tells.
var rowKinds = []struct {
	prefix string
	rest   int
	read   func(l *law, key, value []byte)
}{
	{"v/timer/t/", 16, func(l *law, key, _ []byte) {
		l.seen.timers++
		l.demandAt(int64(binary.BigEndian.Uint64(key[8:])), "the row of a timer")
	}},
	{"v/half/h/", 8, func(l *law, key, _ []byte) {
		l.seen.halves++
		l.demandAt(int64(binary.BigEndian.Uint64(key)), "the row of a half")
	}},
	{"v/dedupe/e/", 8, func(l *law, key, value []byte) {
		for v := value[min(1, len(value)):]; len(v) >= 16; v = v[16:] {
			l.seen.keys++
			l.demandAt(int64(binary.BigEndian.Uint64(v)), "the row of a key")
		}
	}},
	{"v/timer/m", 0, versionedMark("timers")},
	{"v/half/mark", 0, versionedMark("halves")},
	{"v/dedupe/m", 0, versionedMark("keys")},
	{"v/progress/mark", 0, versionedMark("progress")},
}

func versionedMark(name string) func(l *law, key, value []byte) {
	return func(l *law, _, value []byte) {
		if len(value) >= 13 && value[0] == 1 {
			l.mark(value[1:], name)
		}
	}
}

// rows finds rows that are set in what Pebble writes to its log. One that is cut
// by a block's end is not seen.
func (l *law) rows(p []byte) {
	for _, k := range rowKinds {
		prefix := []byte(k.prefix)
		for b := p; ; {
			i := bytes.Index(b, prefix)
			if i < 0 {
				break
			}
			const set = 1
			n := len(prefix) + k.rest
			isKey := i >= 2 && b[i-2] == set && int(b[i-1]) == n
			if b = b[i+len(prefix):]; !isKey || len(b) < k.rest {
				continue
			}
			key, value := b[:k.rest], b[k.rest:]
			size, w := binary.Uvarint(value)
			if w > 0 && uint64(len(value)-w) >= size {
				k.read(l, key, value[w:w+int(size)])
			}
		}
	}
}

// settled reads what a group has settled above its offset, out of a row of
// version 2.
func (l *law) settled(group string, q message.Queue, offset int64, b []byte) {
	ranges, n := binary.Uvarint(b)
	if n <= 0 || ranges > 100 {
		return
	}
	for b = b[n:]; ranges > 0; ranges-- {
		gap, n := binary.Uvarint(b)
		if n <= 0 {
			return
		}
		length, k := binary.Uvarint(b[n:])
		if k <= 0 {
			return
		}
		b = b[n+k:]
		offset += int64(gap + length)
		if s, ok := l.places[q][offset-1]; ok {
			l.seen.settled++
			l.demand(s, "%d of %s, settled by group %s,", offset-1, q, group)
		}
	}
}

// derived tells apart what is written elsewhere than in the log.
func (l *law) derived(name string, off int64, p []byte) {
	switch {
	case strings.HasPrefix(name, "index/"):
		l.indexFile(name, off, p)
	case name == "ember/index.tmp":
		l.indexState(p)
	case strings.HasPrefix(name, "ember/meta/") && strings.HasSuffix(name, ".log"):
		l.rows(p)
	}
}
