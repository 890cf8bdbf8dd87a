package store

import "slices"

// lost is a stretch [from, to) of a queue whose records lie in damage. Only a
// read-only store has it: it went on behind damage, blank entries took the places
// of the records, and reading one gives the error of the damage.
type lost struct {
	from, to int64
	damage   error
}

// lose notes that records of the queue are in damage. Calls do not overlap.
func (q *queue) lose(from, to int64, damage error) {
	var list []lost
	if p := q.lost.Load(); p != nil {
		list = slices.Clone(*p)
	}
	list = append(list, lost{from, to, damage})
	q.lost.Store(&list)
}

// lostAt returns why there is no record at an offset, or nil if there never was one.
func (q *queue) lostAt(offset int64) error {
	p := q.lost.Load()
	if p == nil {
		return nil
	}
	for _, l := range *p {
		if offset >= l.from && offset < l.to {
			return l.damage
		}
	}
	return nil
}
