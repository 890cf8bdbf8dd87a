package message

import (
	"context"
	"sync"
)

// Pending is the receipt of a message that is still on its way. It is one
// allocation; a channel is made only if somebody waits before it is resolved.
// All methods may be called by many goroutines.
type Pending struct {
	mu       sync.Mutex
	resolved bool
	done     chan struct{} // nil until somebody asks; closed when resolved
	receipt  Receipt
	err      error
}

// NewPending returns an unresolved Pending.
func NewPending() *Pending { return new(Pending) }

// closedChan is what Done returns when there is nothing to wait for.
var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Resolve gives the result. The first call decides; later ones do nothing.
func (p *Pending) Resolve(r Receipt, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.resolved {
		return
	}
	p.resolved, p.receipt, p.err = true, r, err
	if p.done != nil {
		close(p.done)
	}
}

// Done returns a channel that is closed once there is a result.
func (p *Pending) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		if p.resolved {
			return closedChan
		}
		p.done = make(chan struct{})
	}
	return p.done
}

// Wait returns the result as soon as there is one. If ctx ends first it returns
// ctx's error; the message is still on its way then and may be stored. A result
// that is there already is returned whatever ctx says.
func (p *Pending) Wait(ctx context.Context) (Receipt, error) {
	if r, ok, err := p.result(); ok {
		return r, err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		if r, ok, err := p.result(); ok {
			return r, err
		}
		return Receipt{}, context.Cause(ctx)
	}
	r, _, err := p.result()
	return r, err
}

func (p *Pending) result() (r Receipt, ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.receipt, p.resolved, p.err
}
