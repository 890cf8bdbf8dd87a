// Package metrics shows a store to Prometheus.
//
// A Collector reads Store.Stats and the store's facets whenever it is gathered. It
// registers nowhere by itself, starts no goroutine and keeps nothing between two
// gatherings. Register it where the program registers its own:
//
//	registry.MustRegister(metrics.New(s))
//
// Two stores in one registry need names: metrics.WithName("orders") adds the label
// store="orders".
//
// # Cost
//
// Counters cost a snapshot. The lag of groups costs the read of one record for each
// queue in which a group has something left. There is one series for each group and
// topic, whatever the number of queues; WithQueues adds those of single queues, up
// to a limit. A group or a queue that cannot be read leaves its series out and counts
// in embermq_collect_errors.
//
// # What there is
//
// Counters begin at zero when the store is opened. Times are in seconds, sizes in
// bytes.
//
//	embermq_records_put_total                     records put, the store's own included
//	embermq_put_bytes_total                       their bytes in the log
//	embermq_retries_total                         failed messages that were put once more for a group
//	embermq_dead_letters_total                    messages that groups gave up on
//	embermq_duplicates_total                      puts that were answered with an earlier receipt
//
//	embermq_log_start_bytes                       position of the first kept record
//	embermq_log_appended_bytes                    end of the log
//	embermq_log_synced_bytes                      the log is proven to be on disk up to here
//	embermq_log_segments                          files of the log
//	embermq_log_writes_total                      batches written
//	embermq_log_sync_duration_seconds             histogram of syncs
//	embermq_log_rolls_total                       segments begun
//	embermq_log_stalls_total                      appends that waited for a sync because of WithMaxUnsynced
//	embermq_log_expired_segments_total            segments that retention removed
//	embermq_log_guarded                           1 while a group keeps a segment that retention wants
//	embermq_log_poisoned                          1 when the store accepts no more puts until it is opened again
//	embermq_checkpoints_total                     saves of all views
//
//	embermq_disk_total_bytes                      size of the file system
//	embermq_disk_free_bytes                       its room
//	embermq_disk_full                             1 while puts fail for want of room
//
//	embermq_topics                                topics
//	embermq_queues                                queues in memory
//	embermq_queue_tail_bytes                      memory of entries that are not in files
//	embermq_queue_flushes_total                   writes of entries to files
//	embermq_queues_damaged                        queues that wait for a rebuild
//	embermq_queues_rebuilt_total                  queues rebuilt from the log
//	embermq_open_files                            of queues and index
//
//	embermq_index_files                           files of the index
//	embermq_index_entries_total                   keys added
//	embermq_index_lag_bytes                       log that the index has yet to take in
//	embermq_index_rebuilds_total                  rebuilds because of damage
//
//	embermq_timers                                messages that wait for their time
//	embermq_timers_overdue                        those whose time has come
//	embermq_timers_fired_total                    delivered
//	embermq_timers_cancelled_total                cancelled
//
//	embermq_halves                                half messages that wait for a verdict
//	embermq_halves_given_up                       half messages that nobody decides
//	embermq_halves_ended_total{verdict}           committed, rolled back or given up
//
//	embermq_group_lag_records{group,topic}        what a group has not settled
//	embermq_group_oldest_age_seconds{group,topic} age of the oldest record of them
//	embermq_group_retries_waiting{group}          retries that wait for their time
//	embermq_group_dead_letters{group}             dead letters that are listed
//	embermq_group_members{group}                  consumers in this process
//	embermq_group_stale{group}                    1 for a group unseen for so long that it guards nothing
//
//	embermq_queue_start_offset{topic,queue}       with WithQueues: first kept offset
//	embermq_queue_end_offset{topic,queue}         with WithQueues: next offset
//	embermq_queue_series_left_out                 with WithQueues: queues beyond the limit
//
//	embermq_recovery_clean                        1 if the last opener closed the store
//	embermq_recovery_duration_seconds             how long Open took
//	embermq_recovery_cut_bytes                    torn tail that was cut
//	embermq_recovery_replayed_records             records applied to views again
//	embermq_recovery_rebuilt_views                views that did not fit the log
//	embermq_recovery_clamped_offsets              committed offsets that lay behind a queue's end
//
//	embermq_background_failed                     1 while background work fails
//	embermq_collect_errors                        groups and queues that this gathering could not read
//
// Broadcasting groups have no lag: their members keep their own places. A store that
// was opened read-only has no groups, timers and halves, and their series are missing.
package metrics
