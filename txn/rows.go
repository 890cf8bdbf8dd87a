package txn

import (
	"bytes"
	"encoding/binary"

	"github.com/embermq/embermq/message"
)

// Keys. On disk. Do not change. See docs/format/halves.md.
const (
	prefixAll  = "v/half/"
	prefixGone = "v/half/d/"
	prefixHalf = "v/half/h/"
	keyMark    = "v/half/mark"
	prefixPage = "v/half/o/"

	rowVersion = 1
)

// end is the first key behind all that begin with prefix, whose last byte is a
// slash.
func end(prefix string) []byte { return []byte(prefix[:len(prefix)-1] + "0") }

func damage(k []byte, reason string) error {
	return &message.CorruptError{Reason: "row " + string(bytes.ToValidUTF8(k, []byte("."))) + ": " + reason}
}

func halfKey(b []byte, pos int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, prefixHalf...), uint64(pos))
}

func (r *row) append(b []byte) []byte {
	b = append(b, rowVersion, byte(r.state))
	b = binary.BigEndian.AppendUint32(b, uint32(r.size))
	b = binary.BigEndian.AppendUint64(b, uint64(r.offset))
	b = binary.BigEndian.AppendUint64(b, uint64(r.born))
	b = binary.BigEndian.AppendUint64(b, uint64(r.shield))
	b = binary.BigEndian.AppendUint32(b, uint32(r.checks))
	b = append(b, r.id[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(r.real.ID))
	for _, s := range []string{r.real.Topic, r.group, r.text} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	return b
}

func parseHalf(k, v []byte) (r row, err error) {
	if !bytes.HasPrefix(k, []byte(prefixHalf)) || len(k) != len(prefixHalf)+8 {
		return r, damage(k, "bad key")
	}
	if len(v) > 0 && v[0] != rowVersion {
		return r, damage(k, "unknown version")
	}
	const fixed = 2 + 4 + 8 + 8 + 8 + 4 + 16 + 4
	if len(v) < fixed+6 {
		return r, damage(k, "too short")
	}
	be := binary.BigEndian
	r.pos = int64(be.Uint64(k[len(prefixHalf):]))
	r.state, r.size = state(v[1]), int32(be.Uint32(v[2:]))
	r.offset, r.born, r.shield = int64(be.Uint64(v[6:])), int64(be.Uint64(v[14:])), int64(be.Uint64(v[22:]))
	r.checks = int32(be.Uint32(v[30:]))
	copy(r.id[:], v[34:])
	r.real.ID = int32(be.Uint32(v[50:]))
	v = v[fixed:]
	for _, s := range []*string{&r.real.Topic, &r.group, &r.text} {
		if len(v) < 2 || len(v)-2 < int(be.Uint16(v)) {
			return row{}, damage(k, "text past the row's end")
		}
		n := int(be.Uint16(v))
		*s, v = string(v[2:2+n]), v[2+n:]
	}
	switch {
	case len(v) != 0:
		return row{}, damage(k, "too long")
	case r.state > givenUp || r.pos < 0 || r.size < 0 || r.offset < 0 || r.shield < -1 || r.checks < 0 || r.real.ID < 0:
		return row{}, damage(k, "bad number")
	case r.id == (ident{}) || r.real.Topic == "":
		return row{}, damage(k, "no id or topic")
	}
	return r, nil
}

// appendFloor is the row of a deleted topic: where in the log that was.
func appendFloor(b []byte, floor int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, rowVersion), uint64(floor))
}

func parseFloor(k, v []byte) (topic string, floor int64, err error) {
	if !bytes.HasPrefix(k, []byte(prefixGone)) || len(k) == len(prefixGone) || len(v) != 9 || v[0] != rowVersion {
		return "", 0, damage(k, "bad row of a deleted topic")
	}
	if floor = int64(binary.BigEndian.Uint64(v[1:])); floor < 0 {
		return "", 0, damage(k, "bad number")
	}
	return string(k[len(prefixGone):]), floor, nil
}

// entryLen is the size of one remembered verdict.
const entryLen = len(ident{}) + 1

func pageKey(b []byte, n int) []byte {
	return binary.BigEndian.AppendUint16(append(b, prefixPage...), uint16(n))
}

func appendPage(b []byte, p []remembered) []byte {
	b = append(b, rowVersion)
	for i := range p {
		b = append(append(b, p[i].id[:]...), byte(p[i].how))
	}
	return b
}

func parsePage(k, v []byte) (n int, p []remembered, err error) {
	if !bytes.HasPrefix(k, []byte(prefixPage)) || len(k) != len(prefixPage)+2 {
		return 0, nil, damage(k, "bad key")
	}
	if len(v) < 1 || v[0] != rowVersion || (len(v)-1)%entryLen != 0 || len(v)-1 > pageLen*entryLen {
		return 0, nil, damage(k, "bad page")
	}
	for v = v[1:]; len(v) > 0; v = v[entryLen:] {
		how := message.Decision(v[entryLen-1])
		if how == message.Undecided || how > message.GivenUp {
			return 0, nil, damage(k, "bad verdict")
		}
		p = append(p, remembered{ident(v[:entryLen-1]), how})
	}
	return int(binary.BigEndian.Uint16(k[len(prefixPage):])), p, nil
}

// markRow is what a save writes last. The ring of verdicts has count entries of
// most, and goes on at next.
type markRow struct {
	mark              message.Mark
	most, count, next int
}

func (r *markRow) append(b []byte) []byte {
	b = append(b, rowVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(r.mark.Offset))
	b = binary.BigEndian.AppendUint32(b, r.mark.Fingerprint)
	for _, n := range []int{r.most, r.count, r.next} {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	return b
}

func parseMark(k, v []byte) (r markRow, err error) {
	if len(v) != 25 || v[0] != rowVersion {
		return r, damage(k, "bad mark")
	}
	be := binary.BigEndian
	r.mark = message.Mark{Offset: int64(be.Uint64(v[1:])), Fingerprint: be.Uint32(v[9:])}
	r.most, r.count, r.next = int(be.Uint32(v[13:])), int(be.Uint32(v[17:])), int(be.Uint32(v[21:]))
	if r.mark.Offset < 0 || r.most < 1 || r.most > maxRemember || r.count > r.most || r.next >= r.most {
		return markRow{}, damage(k, "bad number")
	}
	return r, nil
}
