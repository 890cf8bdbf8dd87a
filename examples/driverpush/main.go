// Driverpush offers rides to drivers. A ride is pushed to one driver; if that one
// does not take it, it is pushed again to the next, after a while and a bounded
// number of times. A ride that nobody took becomes a dead letter, and a second
// consumer tells the passenger. The program checks that every ride was taken by one
// driver or told of, that none was pushed more often than allowed, and that pushes
// kept their distance. The exit code is 1 if not.
//
//	go run ./examples/driverpush
package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/examples/internal/example"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

const (
	topic  = "rides"
	rides  = 60
	pushes = 4                     // at most, of one ride
	pause  = 40 * time.Millisecond // between two of them
)

func main() { example.Main("driverpush", run) }

// ride is what has become of one.
type ride struct {
	pushed   []time.Time
	driver   int // who took it; 0 for nobody
	told     int // how often the passenger heard that nobody did
	attempts int // deliveries in vain, says the dead letter
}

// desk sends drivers.
type desk struct {
	mu    sync.Mutex
	rides map[string]*ride
	ended int
}

// willing is the driver who takes a ride: the first one asked, a later one, or for
// every fifth ride nobody whom we may still ask.
func willing(n int) int { return 1 + n%(pushes+1) }

// push offers a ride to the next driver.
func (k *desk) push(_ context.Context, d *consumer.Delivery) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := string(d.Body())
	r := k.get(id)
	r.pushed = append(r.pushed, time.Now())
	driver := d.Attempt()
	var n int
	if _, err := fmt.Sscanf(id, "ride-%d", &n); err != nil {
		return consumer.DeadLetter("not a ride")
	}
	if driver != willing(n) {
		return fmt.Errorf("driver %d does not take %s", driver, id)
	}
	r.driver = driver
	k.ended++
	return nil
}

// sorry tells a passenger that there is no driver.
func (k *desk) sorry(_ context.Context, d *consumer.Delivery) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.get(string(d.Body()))
	r.told++
	r.attempts = int(d.ReconsumeTimes())
	k.ended++
	return nil
}

func (k *desk) get(id string) *ride {
	r := k.rides[id]
	if r == nil {
		r = new(ride)
		k.rides[strings.Clone(id)] = r
	}
	return r
}

func (k *desk) done() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ended >= rides
}

func run(ctx context.Context, dir string, t *example.Table) (err error) {
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	k := &desk{rides: make(map[string]*ride)}
	drivers := consumer.NewPush(s, "drivers", consumer.WithMaxAttempts(pushes), consumer.WithRetry(consumer.Steps(pause)))
	passengers := consumer.NewPush(s, "passengers")
	if err := errors.Join(
		drivers.Subscribe(topic, nil, consumer.One(k.push)),
		passengers.Subscribe(message.PrefixDead+"drivers", nil, consumer.One(k.sorry)),
	); err != nil {
		return err
	}
	stop := example.Start(ctx, drivers, passengers)
	defer func() { err = errors.Join(err, stop()) }()

	p := producer.New(s)
	for n := range rides {
		if _, err := p.Send(ctx, &message.Message{Topic: topic, Body: fmt.Appendf(nil, "ride-%d", n)}); err != nil {
			return err
		}
	}
	if err := errors.Join(p.Close(ctx), example.Until(ctx, k.done), stop()); err != nil {
		return err
	}
	taken, told, wrong, soon := 0, 0, 0, 0
	for n := range rides {
		r := k.get(fmt.Sprint("ride-", n))
		want := min(willing(n), pushes)
		switch {
		case willing(n) <= pushes && r.driver == willing(n) && r.told == 0:
			taken++
		case willing(n) > pushes && r.driver == 0 && r.told == 1 && r.attempts == pushes:
			told++
		}
		if len(r.pushed) != want {
			wrong++
		}
		for i := 1; i < len(r.pushed); i++ {
			// Due times are kept in whole milliseconds.
			if r.pushed[i].Sub(r.pushed[i-1]) < pause-2*time.Millisecond {
				soon++
			}
		}
	}
	t.Claim(taken == rides*pushes/(pushes+1), "%d rides taken by the driver who wanted them", taken)
	t.Claim(told == rides/(pushes+1), "%d rides that nobody took after %d pushes: the passenger was told once", told, pushes)
	t.Claim(taken+told == rides && wrong == 0, "%d rides in all, %d pushed too often or too seldom", taken+told, wrong)
	t.Claim(soon == 0, "%d pushes came sooner than %v after the one before", soon, pause)
	return nil
}
