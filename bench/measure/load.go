package measure

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/embermq/embermq/message"
)

// Message is the message of all figures: a tag, two keys, three properties.
func Message(topic string, size int) *message.Message {
	return &message.Message{
		Topic: topic, Tag: "paid", Keys: []string{"order-4711", "customer-42"},
		Body:       make([]byte, size),
		Properties: map[string]string{"colour": "red", "size": "9", "region": "north"},
	}
}

// Record is how that message lies in the log. Limits of the machine write these
// bytes.
func Record(size int) ([]byte, error) {
	var d message.Draft
	m := Message("orders", size)
	if err := d.Encode(m, message.Queue{Topic: m.Topic}, nil); err != nil {
		return nil, err
	}
	d.Stamp(0, 0, 1)
	return d.Bytes(), nil
}

// Size writes a number of bytes as workloads are named: "100B", "16KiB".
func Size(n int) string {
	if n%(1<<10) == 0 {
		return strconv.Itoa(n>>10) + "KiB"
	}
	return strconv.Itoa(n) + "B"
}

// Produce runs an operation on so many goroutines until the time is over or it
// was done most times, and returns how often it was done a second. start makes
// the operation of one goroutine.
func Produce(producers int, d time.Duration, most int64, start func(i int) (op func() error, err error)) (perSecond float64, err error) {
	ops := make([]func() error, producers)
	for i := range ops {
		if ops[i], err = start(i); err != nil {
			return 0, err
		}
	}
	share := max(most/int64(producers), 1)
	var stop atomic.Bool
	var done atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	begun := time.Now()
	timer := time.AfterFunc(d, func() { stop.Store(true) })
	defer timer.Stop()
	for _, op := range ops {
		wg.Go(func() {
			n := int64(0)
			for n < share && (n == 0 || !stop.Load()) {
				if err := op(); err != nil {
					failed.Store(&err)
					stop.Store(true)
					break
				}
				n++
			}
			done.Add(n)
		})
	}
	wg.Wait()
	took := time.Since(begun)
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(done.Load()) / took.Seconds(), nil
}
