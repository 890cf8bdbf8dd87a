package metrics

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// gathering is one call of Collect.
type gathering struct {
	*Collector
	out      chan<- prometheus.Metric
	failures int
}

func closed(err error) bool { return errors.Is(err, store.ErrClosed) }

func (g *gathering) gauge(d *prometheus.Desc, v float64, labels ...string) {
	g.out <- prometheus.MustNewConstMetric(d, gauge, v, labels...)
}

// firstBucket is the first power of two, in microseconds, that is worth a bucket: no
// disk syncs faster.
const firstBucket = 4

// syncs makes a histogram of the syncs.
func (g *gathering) syncs(st *store.Stats) {
	t := &st.Log.SyncTimes
	buckets := make(map[float64]uint64)
	var n uint64
	for i, count := range t.Counts {
		n += uint64(count)
		if i >= firstBucket && i < len(t.Counts)-1 {
			buckets[(time.Microsecond << i).Seconds()] = n
		}
	}
	g.out <- prometheus.MustNewConstHistogram(g.d.syncs, n, t.Total.Seconds(), buckets)
}

func (g *gathering) halves(st *store.Stats) {
	for verdict, n := range map[string]int64{"committed": st.Halves.Committed, "rolled_back": st.Halves.RolledBack, "given_up": st.Halves.Abandoned} {
		g.out <- prometheus.MustNewConstMetric(g.d.halvesEnded, counter, float64(n), verdict)
	}
}

// groups shows each group. One that is deleted meanwhile is left out.
func (g *gathering) groups(st *store.Stats) {
	for _, gr := range g.s.Progress().Groups() {
		name := gr.Name
		g.gauge(g.d.members, float64(len(g.s.Groups().Members(name))), name)
		g.gauge(g.d.stale, flag(slices.Contains(st.StaleGroups, name)), name)
		g.gauge(g.d.deadLetters, float64(g.s.DeadLetters().Count(name)), name)
		g.gauge(g.d.retriesWaiting, float64(g.s.Timers().Count(message.PrefixRetry+name)), name)
		if !gr.Broadcast {
			g.lag(name)
		}
	}
}

// lag adds the queues of each topic up.
func (g *gathering) lag(group string) {
	lag, err := g.s.Lag(context.Background(), group)
	if err != nil {
		if !errors.Is(err, store.ErrUnsupported) { // its members broadcast
			g.failures++
		}
		return
	}
	for len(lag.Queues) > 0 {
		topic := lag.Queues[0].Queue.Topic
		var records int64
		var age time.Duration
		for len(lag.Queues) > 0 && lag.Queues[0].Queue.Topic == topic {
			records += lag.Queues[0].Records
			age = max(age, lag.Queues[0].Age)
			lag.Queues = lag.Queues[1:]
		}
		g.gauge(g.d.lag, float64(records), group, topic)
		g.gauge(g.d.age, age.Seconds(), group, topic)
	}
}

// perQueue shows single queues up to the limit.
func (g *gathering) perQueue() {
	shown, left := 0, 0
	for _, t := range g.s.Topics() {
		for id := range max(t.ReadQueues, t.WriteQueues) {
			if shown == g.queues {
				left++
				continue
			}
			start, end, err := g.s.Bounds(message.Queue{Topic: t.Name, ID: int32(id)})
			if err != nil {
				g.failures++
				continue
			}
			shown++
			queue := strconv.Itoa(id)
			g.gauge(g.d.queueStart, float64(start), t.Name, queue)
			g.gauge(g.d.queueEnd, float64(end), t.Name, queue)
		}
	}
	g.gauge(g.d.queuesLeftOut, float64(left))
}
