// Package measure is what the benchmark programs share: experiments whose
// subjects take turns, medians and quartiles, results.json and its comparison,
// tables and plots.
//
// An Experiment is one piece of work; a Subject is who does it: EmberMQ, a limit
// of the machine, or another library. Each turn gives a figure for each Metric.
// Subjects take turns because neither a disk nor a shared processor is the same
// a minute later: a ratio is the median of the ratios of single rounds, not the
// ratio of two medians.
//
// Nothing here is durable. A Runner belongs to one goroutine.
package measure
