package producer

import (
	"context"
	"errors"

	"github.com/embermq/embermq/message"
)

// sendFlights stores flights as one atomic group and sets what became of each.
// A group that the engine refuses because of one of them is sent message by
// message. Of one key nothing is sent behind a failure.
func (p *Producer) sendFlights(fs []*flight) {
	ready := fs[:0:0]
	failed := make(map[key]error)
	for _, f := range fs {
		if err := f.ctx.Err(); err != nil {
			p.refuse(f, failed, early(err))
		} else if err, ok := failed[f.key()]; ok && f.keyed() {
			f.err = precede(err)
		} else {
			ready = append(ready, f)
		}
	}
	if len(ready) == 0 {
		return
	}
	ss := make([]*send, len(ready))
	for i, f := range ready {
		ss[i] = &f.send
	}
	b := &budget{parent: context.Background(), limit: p.left(ready[0]), clock: p.o.clock}
	defer b.stop()
	b.begin()
	rs, err := p.attemptGroup(b, ss)
	switch {
	case err == nil:
		for i, f := range ready {
			f.receipt = rs[i]
		}
	case len(ready) > 1 && !errors.Is(err, ErrUnknownOutcome) && !isBusy(err):
		for _, f := range ready {
			f.attempts = 0
			if err, ok := failed[f.key()]; ok && f.keyed() {
				f.err = precede(err)
			} else if f.receipt, err = p.attempt(&f.send); err != nil {
				p.refuse(f, failed, err)
			}
		}
	default:
		for _, f := range ready {
			if before, ok := failed[f.key()]; ok && f.keyed() {
				f.err = precede(before)
				continue
			}
			e := err
			if errors.Is(err, ErrUnknownOutcome) {
				f.unknown = true
				e = f.outcome(errors.Unwrap(err))
			}
			p.refuse(f, failed, e)
		}
	}
}

func (p *Producer) refuse(f *flight, failed map[key]error, err error) {
	f.receipt, f.err = message.Receipt{}, err
	if f.keyed() {
		failed[f.key()] = err
	}
}
