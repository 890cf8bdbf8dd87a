package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/embermq/embermq/store"
)

// MaxQueues is the most queues that WithQueues allows.
const MaxQueues = 10_000

// Option changes a Collector.
type Option func(*Collector)

// WithName adds the label store to every series.
func WithName(name string) Option {
	return func(c *Collector) { c.labels = prometheus.Labels{"store": name} }
}

// WithQueues adds series of single queues, for at most so many queues and for no
// more than MaxQueues, in the order of topics. Each queue is two series.
func WithQueues(most int) Option {
	return func(c *Collector) { c.queues = max(0, min(most, MaxQueues)) }
}

// Collector is a prometheus.Collector of one store. It may be gathered by several
// goroutines at once. After the store is closed it yields nothing.
type Collector struct {
	s      *store.Store
	labels prometheus.Labels
	queues int

	values []value
	d      descs
}

// New returns a collector of a store. It is not registered anywhere.
func New(s *store.Store, options ...Option) *Collector {
	c := &Collector{s: s, values: values}
	for _, o := range options {
		o(c)
	}
	c.d = describe(c.labels)
	return c
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.d.plain {
		out <- d
	}
	for _, d := range c.d.labelled() {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	disk, err := c.s.Disk()
	if err != nil && closed(err) {
		return
	}
	g := &gathering{Collector: c, out: out}
	st := c.s.Stats()
	for i, v := range c.values {
		if v.writer && c.s.Progress() == nil {
			continue
		}
		out <- prometheus.MustNewConstMetric(c.d.plain[i], v.kind, v.get(&st))
	}
	if err != nil {
		g.failures++
	} else {
		g.gauge(c.d.diskTotal, float64(disk.Total))
		g.gauge(c.d.diskFree, float64(disk.Free))
	}
	g.syncs(&st)
	if c.s.Progress() != nil {
		g.halves(&st)
		g.groups(&st)
	}
	if c.queues > 0 {
		g.perQueue()
	}
	g.gauge(c.d.errors, float64(g.failures))
}
