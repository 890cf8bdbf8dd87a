package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/embermq/embermq/store"
)

// value is a metric without labels that Stats has.
type value struct {
	name, help string
	kind       prometheus.ValueType
	writer     bool // a read-only store has none
	get        func(s *store.Stats) float64
}

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

var values = []value{
	{"records_put_total", "Records put, the store's own included.", counter, false, func(s *store.Stats) float64 { return float64(s.Puts) }},
	{"put_bytes_total", "Bytes of records put, in the log.", counter, false, func(s *store.Stats) float64 { return float64(s.PutBytes) }},
	{"retries_total", "Failed messages that were put once more for a group.", counter, false, func(s *store.Stats) float64 { return float64(s.Retries) }},
	{"dead_letters_total", "Messages that groups gave up on.", counter, false, func(s *store.Stats) float64 { return float64(s.DeadLetters) }},
	{"duplicates_total", "Puts that were answered with an earlier receipt.", counter, false, func(s *store.Stats) float64 { return float64(s.Dedupe.Duplicates) }},

	{"log_start_bytes", "Position of the first kept record.", gauge, false, func(s *store.Stats) float64 { return float64(s.Log.Start) }},
	{"log_appended_bytes", "End of the log.", gauge, false, func(s *store.Stats) float64 { return float64(s.Log.Appended) }},
	{"log_synced_bytes", "The log is proven to be on disk up to here.", gauge, false, func(s *store.Stats) float64 { return float64(s.Log.Synced) }},
	{"log_segments", "Files of the log.", gauge, false, func(s *store.Stats) float64 { return float64(s.Log.Segments) }},
	{"log_writes_total", "Batches written to the log.", counter, false, func(s *store.Stats) float64 { return float64(s.Log.Writes) }},
	{"log_rolls_total", "Segments begun.", counter, false, func(s *store.Stats) float64 { return float64(s.Log.Rolls) }},
	{"log_stalls_total", "Appends that waited for a sync because too much was unsynced.", counter, false, func(s *store.Stats) float64 { return float64(s.Log.Stalls) }},
	{"log_expired_segments_total", "Segments that retention removed.", counter, false, func(s *store.Stats) float64 { return float64(s.Expired) }},
	{"log_guarded", "Whether a group keeps a segment that retention wants.", gauge, false, func(s *store.Stats) float64 { return flag(s.Guarded) }},
	{"log_poisoned", "Whether the store accepts no more puts until it is opened again.", gauge, false, func(s *store.Stats) float64 { return flag(s.Poisoned != nil) }},
	{"checkpoints_total", "Saves of all views.", counter, false, func(s *store.Stats) float64 { return float64(s.Checkpoints) }},
	{"disk_full", "Whether puts fail for want of room.", gauge, false, func(s *store.Stats) float64 { return flag(s.DiskFull) }},

	{"topics", "Topics.", gauge, false, func(s *store.Stats) float64 { return float64(s.Topics) }},
	{"queues", "Queues in memory.", gauge, false, func(s *store.Stats) float64 { return float64(s.Queues.Queues) }},
	{"queue_tail_bytes", "Memory of queue entries that are not in files.", gauge, false, func(s *store.Stats) float64 { return float64(s.Queues.TailBytes) }},
	{"queue_flushes_total", "Writes of queue entries to files.", counter, false, func(s *store.Stats) float64 { return float64(s.Queues.Flushes) }},
	{"queues_damaged", "Queues that wait for a rebuild.", gauge, false, func(s *store.Stats) float64 { return float64(s.Queues.Damaged) }},
	{"queues_rebuilt_total", "Queues rebuilt from the log.", counter, false, func(s *store.Stats) float64 { return float64(s.QueuesRebuilt) }},
	{"open_files", "Open files of queues and index.", gauge, false, func(s *store.Stats) float64 { return float64(s.Queues.OpenFiles + s.Index.OpenFiles) }},

	{"index_files", "Files of the index.", gauge, false, func(s *store.Stats) float64 { return float64(s.Index.Files) }},
	{"index_entries_total", "Keys added to the index.", counter, false, func(s *store.Stats) float64 { return float64(s.Index.Entries) }},
	{"index_lag_bytes", "Log that the index has yet to take in.", gauge, false, func(s *store.Stats) float64 { return float64(s.Index.Applied - s.Index.Built) }},
	{"index_rebuilds_total", "Rebuilds of the index because of damage.", counter, false, func(s *store.Stats) float64 { return float64(s.Index.Rebuilds) }},

	{"timers", "Messages that wait for their time.", gauge, true, func(s *store.Stats) float64 { return float64(s.Timers.Pending) }},
	{"timers_overdue", "Waiting messages whose time has come.", gauge, true, func(s *store.Stats) float64 { return float64(s.Timers.Overdue) }},
	{"timers_fired_total", "Waiting messages that were delivered.", counter, true, func(s *store.Stats) float64 { return float64(s.Timers.Fired) }},
	{"timers_cancelled_total", "Waiting messages that were cancelled.", counter, true, func(s *store.Stats) float64 { return float64(s.Timers.Cancelled) }},
	{"halves", "Half messages that wait for a verdict.", gauge, true, func(s *store.Stats) float64 { return float64(s.Halves.Pending) }},
	{"halves_given_up", "Half messages that nobody decides.", gauge, true, func(s *store.Stats) float64 { return float64(s.Halves.GivenUp) }},

	{"recovery_clean", "Whether the last opener closed the store.", gauge, false, func(s *store.Stats) float64 { return flag(s.Recovery.Clean) }},
	{"recovery_duration_seconds", "How long Open took.", gauge, false, func(s *store.Stats) float64 { return s.Recovery.Took.Seconds() }},
	{"recovery_cut_bytes", "Torn tail that Open cut.", gauge, false, func(s *store.Stats) float64 { return float64(s.Recovery.CutBytes) }},
	{"recovery_replayed_records", "Records that Open applied to views again.", gauge, false, func(s *store.Stats) float64 { return float64(s.Recovery.Replayed) }},
	{"recovery_rebuilt_views", "Views that did not fit the log when it was opened.", gauge, false, func(s *store.Stats) float64 { return float64(len(s.Recovery.Rebuilt)) }},
	{"recovery_clamped_offsets", "Committed offsets that lay behind a queue's end at Open.", gauge, false, func(s *store.Stats) float64 { return float64(s.Recovery.Clamped) }},
	{"background_failed", "Whether background work fails.", gauge, false, func(s *store.Stats) float64 { return flag(s.Background != nil) }},
}

// descs are the descriptions of everything.
type descs struct {
	plain []*prometheus.Desc // as values

	syncs, diskTotal, diskFree, errors, halvesEnded       *prometheus.Desc
	lag, age, retriesWaiting, deadLetters, members, stale *prometheus.Desc
	queueStart, queueEnd, queuesLeftOut                   *prometheus.Desc
}

func describe(labels prometheus.Labels) (d descs) {
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc("embermq_"+name, help, variable, labels)
	}
	for _, v := range values {
		d.plain = append(d.plain, desc(v.name, v.help))
	}
	d.syncs = desc("log_sync_duration_seconds", "How long syncs of the log took.")
	d.diskTotal = desc("disk_total_bytes", "Size of the file system that holds the log.")
	d.diskFree = desc("disk_free_bytes", "Room on the file system that holds the log.")
	d.errors = desc("collect_errors", "Groups and queues that this gathering could not read.")
	d.halvesEnded = desc("halves_ended_total", "Half messages that ended.", "verdict")
	d.lag = desc("group_lag_records", "Records that a group has not settled.", "group", "topic")
	d.age = desc("group_oldest_age_seconds", "Age of the oldest record that a group has not settled.", "group", "topic")
	d.retriesWaiting = desc("group_retries_waiting", "Retries that wait for their time.", "group")
	d.deadLetters = desc("group_dead_letters", "Dead letters that are listed.", "group")
	d.members = desc("group_members", "Consumers of a group in this process.", "group")
	d.stale = desc("group_stale", "Whether a group is unseen for so long that it guards nothing.", "group")
	d.queueStart = desc("queue_start_offset", "First kept offset of a queue.", "topic", "queue")
	d.queueEnd = desc("queue_end_offset", "Next offset of a queue.", "topic", "queue")
	d.queuesLeftOut = desc("queue_series_left_out", "Queues beyond the limit of series.")
	return d
}

func (d *descs) labelled() []*prometheus.Desc {
	return []*prometheus.Desc{d.syncs, d.diskTotal, d.diskFree, d.errors, d.halvesEnded, d.lag, d.age, d.retriesWaiting,
		d.deadLetters, d.members, d.stale, d.queueStart, d.queueEnd, d.queuesLeftOut}
}
