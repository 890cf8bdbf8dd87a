package producer

import (
	"context"
	"fmt"

	"github.com/embermq/embermq/message"
)

// giveUp is how many failures in a row end a pass over the spool: then it is the
// engine, not the messages.
const giveUp = 16

// Resend sends what the spool holds, oldest first, and returns how many messages
// went out. Behind one that fails again, the others of its sharding key wait for the
// next pass. A message that the engine calls invalid goes to the spool's file of
// refused ones. The error is what befell the first message that
// stayed, ErrUnsupported without a spool, or ErrClosed.
func (p *Producer) Resend(ctx context.Context) (sent int, err error) {
	if err := p.enter(); err != nil {
		return 0, err
	}
	defer p.leave()
	spool := p.o.spool
	if spool == nil {
		return 0, fmt.Errorf("producer: there is no spool: %w", message.ErrUnsupported)
	}
	p.resent.Lock()
	defer p.resent.Unlock()
	failed := make(map[key]bool)
	inRow := 0
	var first error
	for _, e := range spool.snapshot() {
		if e.key.key != "" && failed[e.key] {
			continue
		}
		if err := p.resendOne(ctx, spool, e); err != nil {
			failed[e.key] = true
			if first == nil {
				first = err
			}
			if inRow++; inRow == giveUp || ctx.Err() != nil {
				break
			}
			continue
		}
		sent++
		inRow = 0
		if p.active.Load() >= closedBit { // Close waits
			break
		}
	}
	if err := spool.tidy(); first == nil {
		first = err
	}
	return sent, first
}

func (p *Producer) resendOne(ctx context.Context, spool *Spool, e spooled) error {
	m, err := spool.read(e)
	if err != nil {
		return err
	}
	s := p.newSend()
	defer p.freeSend(s)
	s.again = true
	if _, err := p.sendOne(ctx, s, m); err != nil {
		if isFault(err) {
			return spool.refuse(e, m)
		}
		return err
	}
	return spool.remove(e)
}
