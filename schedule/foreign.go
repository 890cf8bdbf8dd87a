package schedule

import (
	"context"
	ids "github.com/embermq/embermq/internal/ident"
	"strings"
)

// foreign is what another program's record says about a timer: it names an id,
// not a position, so whether there is such a timer may need a look at the disk.
type foreign struct {
	id    ident
	topic string // of delivery
	due   int64  // -1 is any
	pos   int64  // of the record; it means timers below
	how   Outcome
}

func (f *foreign) means(k key, topic string) bool {
	return (f.due < 0 || f.due == k.due) && k.pos < f.pos && f.topic == topic
}

// foreignLocked ends the timers that a foreign record means: at once those in
// memory, at the next step those on disk.
func (s *Schedule) foreignLocked(topic, id string, due, pos int64, how Outcome) {
	i, _ := ids.Of(id)
	if i == (ident{}) {
		return
	}
	f := foreign{i, topic, due, pos, how}
	for t := s.idsLocked()[i]; t != nil; {
		next := t.next
		if f.means(t.key, t.topic.name) {
			s.killLocked(t)
			s.doneLocked(i, how)
		}
		t = next
	}
	if !s.mu.isNew {
		f.topic = strings.Clone(topic) // the record is lent
		s.mu.unresolved = append(s.mu.unresolved, f)
	}
}

// resolve carries out what foreignLocked left over. It runs before anything is
// fired.
func (s *Schedule) resolve(ctx context.Context) error {
	for {
		s.mu.Lock()
		if len(s.mu.unresolved) == 0 {
			s.mu.Unlock()
			return nil
		}
		f, gen := s.mu.unresolved[0], s.mu.gen
		s.mu.Unlock()
		rows, err := s.lookup(f.id)
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		s.mu.Lock()
		if s.mu.gen == gen {
			for _, row := range rows {
				if !f.means(row.key, row.topic) || s.isDeadLocked(row.key) {
					continue
				}
				if t := s.findLocked(row.key); t != nil {
					s.killLocked(t)
				} else {
					s.buryLocked(row.key, row.id)
					s.countLocked(s.topicLocked(row.topic), row.pos, -1)
				}
				s.doneLocked(f.id, f.how)
			}
			s.mu.unresolved = s.mu.unresolved[1:]
		}
		s.mu.Unlock()
	}
}
