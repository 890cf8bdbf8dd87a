package txntest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/txn"
)

// Database is an application's database with the resource that is tested.
type Database interface {
	txn.Resource
	// Transact is the application's transaction: one row of the application's own,
	// named id, and the marker. Both are durable when it returns nil, and neither is
	// there when it returns an error.
	Transact(id message.HalfID) error
	// Has says whether the application's row is there.
	Has(id message.HalfID) (bool, error)
	// Crash returns the database as the next process finds it, with a resource that
	// asks l. This one goes on and does not notice.
	Crash(l txn.Ledger) (Database, error)
	// Close closes the database.
	Close() error
}

const producers = "bank"

// run is one script.
type run struct {
	rnd    *rand.Rand
	m      *Machine
	db     Database
	halves []message.HalfID
	images int
	limit  int
}

// Script does random transactions on a database that is empty, and looks at
// images machine and database would be found as if the process had died between
// two steps: until so many images were seen, or something is wrong. open makes the
// database.
func Script(seed uint64, images int, open func(l txn.Ledger) (Database, error)) (err error) {
	r := &run{rnd: rand.New(rand.NewPCG(seed, 11)), limit: images}
	if r.m, err = NewMachine(); err != nil {
		return err
	}
	if r.db, err = open(r.m.Halves()); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, r.m.Close(context.Background()), r.db.Close())
		if err != nil {
			err = fmt.Errorf("seed %d, image %d: %w", seed, r.images, err)
		}
	}()
	if _, err := r.m.Halves().Attach(producers, r.db, message.CheckOptions{}); err != nil {
		return err
	}
	for r.images < r.limit {
		if err := r.transaction(); err != nil {
			return err
		}
	}
	return nil
}

// transaction is one of the ways in which a transaction goes.
func (r *run) transaction() error {
	ctx := context.Background()
	var id message.HalfID
	prepare := func() (err error) {
		m := &message.Message{Topic: "orders", Body: fmt.Append(nil, len(r.halves))}
		_, id, err = r.m.Halves().Prepare(ctx, m, producers, message.HalfOptions{})
		r.halves = append(r.halves, id)
		return err
	}
	transact := func() error { return r.db.Transact(id) }
	commit := func() error { _, how, err := r.m.Halves().Commit(ctx, id); return want(how, message.Committed, err) }
	rollback := func() error { how, err := r.m.Halves().Rollback(ctx, id); return want(how, message.RolledBack, err) }
	settle := func(how message.Decision) func() error {
		return func() error { got, err := r.db.Settle(ctx, id); return want(got, how, err) }
	}
	late := func() error {
		if err := r.db.Transact(id); err == nil {
			return fmt.Errorf("%s: the application's transaction succeeds after the half was rolled back", id)
		}
		return nil
	}
	check := func() error { return r.m.Advance(time.Minute) }
	ways := [][]func() error{
		{prepare, transact, commit},
		{prepare, transact, commit, late}, // twice
		{prepare, rollback, late},
		{prepare, check, late},
		{prepare, settle(message.RolledBack), late, settle(message.RolledBack), rollback, late},
		{prepare, transact, check},
		{prepare, transact, settle(message.Committed), commit},
		{prepare, settle(message.RolledBack), check, late},
	}
	for _, step := range ways[r.rnd.IntN(len(ways))] {
		if err := step(); err != nil {
			return err
		}
		if err := r.image(); err != nil {
			return err
		}
	}
	if n := len(r.halves); n > 12 { // old ones have been looked at often enough
		r.halves = r.halves[n-12:]
	}
	return nil
}

func want(how, want message.Decision, err error) error {
	if err == nil && how != want {
		err = fmt.Errorf("the verdict is %v, want %v", how, want)
	}
	return err
}

// image starts the machine and the database again as they are now, lets the
// database decide, and compares: a message is there if and only if the
// application's row is.
func (r *run) image() (err error) {
	if r.images >= r.limit {
		return nil
	}
	r.images++
	m, err := r.m.Crash()
	if err != nil {
		return err
	}
	db, err := r.db.Crash(m.Halves())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close(context.Background()), db.Close()) }()
	away := r.rnd.IntN(4) == 0
	if away { // the database is not there yet: nothing is decided meanwhile
		open := m.Halves().Len()
		if err := m.Advance(1000 * time.Hour); err != nil {
			return err
		}
		if m.Halves().Len() != open || m.Halves().GivenUp() != 0 {
			return errors.New("halves are decided without their database")
		}
	}
	if _, err := m.Halves().Attach(producers, db, message.CheckOptions{}); err != nil {
		return err
	}
	if err := m.Advance(time.Hour); err != nil {
		return err
	}
	if n := m.Halves().Len(); n != 0 {
		return fmt.Errorf("%d halves stay pending", n)
	}
	delivered, err := m.Delivered()
	if err != nil {
		return err
	}
	for _, id := range r.halves {
		has, err := db.Has(id)
		if err != nil {
			return err
		}
		how, err := m.Halves().State(id)
		if err != nil {
			return err
		}
		if has != (how == message.Committed) || has && delivered[id] != 1 || !has && delivered[id] != 0 {
			return fmt.Errorf("%s: %v, delivered %d times, the application's row is there: %v", id, how, delivered[id], has)
		}
	}
	return nil
}

// Markers counts the markers of a database.
func Markers(db txn.Resource) (n int, err error) {
	for _, err := range db.Markers(context.Background()) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// Many does so many transactions that are committed and as many that are not, and
// returns how many markers stay.
func Many(n int, open func(l txn.Ledger) (Database, error)) (markers int, err error) {
	ctx := context.Background()
	m, err := NewMachine()
	if err != nil {
		return 0, err
	}
	db, err := open(m.Halves())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, m.Close(ctx), db.Close()) }()
	if _, err := m.Halves().Attach(producers, db, message.CheckOptions{}); err != nil {
		return 0, err
	}
	for i := range n {
		_, id, err := m.Halves().Prepare(ctx, &message.Message{Topic: "t"}, producers, message.HalfOptions{})
		if err != nil {
			return 0, err
		}
		if i%2 == 0 {
			if err := db.Transact(id); err != nil {
				return 0, err
			}
			if _, _, err := m.Halves().Commit(ctx, id); err != nil {
				return 0, err
			}
		}
		if i%100 == 99 { // the others are decided by the database
			if err := m.Advance(time.Minute); err != nil {
				return 0, err
			}
		}
	}
	return Markers(db)
}
