package txn

import (
	"fmt"
	"sync"
	"testing"

	"github.com/embermq/embermq/message"
)

// TestRaces: of many verdicts at once one wins, and all learn which.
func TestRaces(t *testing.T) {
	if err := races(500); err != nil {
		t.Fatal(err)
	}
}

func races(rounds int) error {
	r := newRig()
	if err := r.open(); err != nil {
		return err
	}
	defer r.Close(bg)
	for n := range rounds {
		body := fmt.Sprint(n)
		_, id, err := r.Halves().Prepare(bg, &message.Message{Topic: "t", Body: []byte(body)}, "g", message.HalfOptions{})
		if err != nil {
			return err
		}
		var got [6]message.Decision
		var errs [6]error
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for i := range got {
			wg.Go(func() {
				<-begin
				switch i % 3 {
				case 0:
					_, got[i], errs[i] = r.Halves().Commit(bg, id)
				case 1:
					got[i], errs[i] = r.Halves().Rollback(bg, id)
				default:
					_, errs[i] = r.Carry(bg, r.mark())
				}
			})
		}
		close(begin)
		wg.Wait()
		how, err := r.Halves().State(id)
		if err != nil {
			return fmt.Errorf("round %d: %w", n, err)
		}
		for i := range got {
			if errs[i] != nil || i%3 < 2 && got[i] != how {
				return fmt.Errorf("round %d: answer %d is %v (%w), the verdict is %v", n, i, got[i], errs[i], how)
			}
		}
		delivered, ends := 0, 0
		r.log.mu.Lock()
		for _, rec := range r.log.recs[max(0, len(r.log.recs)-40):] {
			switch v := parse(rec.b); {
			case v.Topic() == "t" && string(v.Body()) == body:
				delivered++
			case v.Topic() == message.TopicOpHalf && rec.pos >= r.born(id):
				ends++
			}
		}
		r.log.mu.Unlock()
		want := 0
		if how == message.Committed {
			want = 1
		}
		if delivered != want {
			return fmt.Errorf("round %d: %v, delivered %d times", n, how, delivered)
		}
		if ends != 1 {
			return fmt.Errorf("round %d: %d verdicts", n, ends)
		}
	}
	return nil
}

// mark is the log's end.
func (r *rig) mark() int64 { return r.log.mark().Offset }

// born is where the first record of a half lies. The log's mutex is held.
func (r *rig) born(id message.HalfID) int64 {
	for _, rec := range r.log.recs[max(0, len(r.log.recs)-40):] {
		if v := parse(rec.b); v.Topic() == message.TopicHalf && v.UniqueID() == string(id) {
			return rec.pos
		}
	}
	return -1
}
