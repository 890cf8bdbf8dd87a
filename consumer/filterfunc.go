package consumer

import (
	"sync/atomic"

	"github.com/embermq/embermq/message"
)

// FuncFilter chooses messages by a function of the user's. It is a message.Filter.
type FuncFilter struct {
	name   string
	match  func(*message.Record) bool
	panics atomic.Int64
}

// FilterFunc makes a filter of match, which is called by several goroutines at
// once, does not keep the record and is best fast: it runs while messages are read.
// A message for which it panics is not matched. All members of a group subscribe
// with the same name, which stands for the function where subscriptions are
// compared.
func FilterFunc(name string, match func(*message.Record) bool) *FuncFilter {
	return &FuncFilter{name: name, match: match}
}

// Hashes returns nil: the function does not go by tags.
func (f *FuncFilter) Hashes() []int64 { return nil }

// Match calls the function.
func (f *FuncFilter) Match(r *message.Record) (ok bool) {
	defer func() {
		if v := recover(); v != nil {
			f.panics.Add(1)
			ok = false
		}
	}()
	return f.match(r)
}

// String returns the name, marked as a function's.
func (f *FuncFilter) String() string { return "func " + f.name }

// Panics is how often the function has panicked.
func (f *FuncFilter) Panics() int64 { return f.panics.Load() }
