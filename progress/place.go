package progress

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/embermq/embermq/message"
)

// place is what is stored of a group in one queue.
type place struct {
	offset  int64
	settled []message.Range
	holds   []hold // in any order in memory, by offset on disk
}

// placeNow copies what is true now. Sorting and encoding are for later, off the
// lock.
func (r *row) placeNow() place {
	p := place{offset: r.offset}
	if len(r.settled) > 0 {
		p.settled = slices.Clone(r.settled)
	}
	if len(r.holds) > 0 {
		p.holds = make([]hold, 0, len(r.holds))
		for _, h := range r.holds {
			p.holds = append(p.holds, *h)
		}
	}
	return p
}

// appendPlace encodes a place: as an offset alone when there is nothing above.
func appendPlace(dst []byte, p *place) []byte {
	if len(p.settled) == 0 && len(p.holds) == 0 {
		return appendOffset(dst, p.offset)
	}
	dst = binary.BigEndian.AppendUint64(append(dst, rowVersionAbove), uint64(p.offset))
	dst = binary.AppendUvarint(dst, uint64(len(p.settled)))
	last := p.offset
	for _, s := range p.settled {
		dst = binary.AppendUvarint(dst, uint64(s.From-last))
		dst = binary.AppendUvarint(dst, uint64(s.To-s.From))
		last = s.To
	}
	slices.SortFunc(p.holds, func(a, b hold) int { return cmp.Compare(a.offset, b.offset) })
	dst = binary.AppendUvarint(dst, uint64(len(p.holds)))
	last = p.offset
	for i := range p.holds {
		h := &p.holds[i]
		dst = binary.AppendUvarint(dst, uint64(h.offset-last))
		dst = binary.AppendUvarint(dst, uint64(h.attempts))
		dst = binary.AppendUvarint(dst, h.lease)
		dst = binary.AppendUvarint(dst, uint64(max(h.until, 0)))
		last = h.offset
	}
	return dst
}

// decodePlace takes any bytes and refuses what appendPlace does not write.
func decodePlace(key, v []byte) (place, error) {
	if len(v) == 0 || v[0] != rowVersionAbove {
		offset, err := decodeOffset(key, v)
		return place{offset: offset}, err
	}
	if len(v) < offsetRowSize {
		return place{}, damage(key, "row is cut off")
	}
	p := place{offset: int64(binary.BigEndian.Uint64(v[1:]))}
	d := decoder{b: v[offsetRowSize:], last: p.offset, ok: p.offset >= 0}
	for n := d.count(); n > 0 && d.ok; n-- {
		s := message.Range{From: d.step(1)}
		s.To = d.step(1)
		p.settled = append(p.settled, s)
	}
	r := row{offset: p.offset, settled: p.settled}
	d.last = p.offset
	for i, n := 0, d.count(); i < n && d.ok; i++ {
		h := hold{offset: d.step(min(uint64(i), 1))}
		h.attempts, h.lease, h.until = int(d.number(1<<31)), d.number(1<<63), int64(d.number(1<<62))
		if r.isSettled(h.offset) {
			d.ok = false
		}
		p.holds = append(p.holds, h)
	}
	if !d.ok || len(d.b) > 0 || len(p.settled)+len(p.holds) == 0 {
		return place{}, damage(key, "not a place in a queue")
	}
	return p, nil
}

// decoder reads numbers off b until one is not as it should be.
type decoder struct {
	b    []byte
	last int64
	ok   bool
}

func (d *decoder) number(limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > limit || !d.ok {
		d.ok = false
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count is a number of elements; each takes two bytes at least, so a wild one
// costs no memory.
func (d *decoder) count() int { return int(d.number(uint64(len(d.b) / 2))) }

// step is an offset at least so far behind the last one.
func (d *decoder) step(least uint64) int64 {
	v := d.number(1 << 62)
	if v < least || d.last > 1<<62 {
		d.ok = false
	}
	d.last += int64(v)
	return d.last
}
