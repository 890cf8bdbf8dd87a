// Package plant holds bugs on purpose. A crash test that has never seen a bug
// proves nothing, so the build tag "plant" compiles known mistakes into the
// places that guard against them, and the mutation tests demand that each one
// is found. Without the tag every check is a constant false and costs nothing.
package plant

// Bug names one planted mistake.
type Bug string

// The planted mistakes. The comment says what goes wrong.
const (
	None Bug = ""

	// QueueAheadOfLog writes queue entries to files before the log has synced
	// their records.
	QueueAheadOfLog Bug = "queue-ahead-of-log"
	// QueueSaveWithoutSync saves the queues' ends without making the queue files
	// durable first.
	QueueSaveWithoutSync Bug = "queue-save-without-sync"
	// QueueBlankAhead lets pre-blank entries reach a file before the record that
	// follows them is synced.
	QueueBlankAhead Bug = "queue-blank-ahead"
	// QueueRemovesEarly removes expired queue files before the image that no
	// longer names them is durable.
	QueueRemovesEarly Bug = "queue-removes-early"
	// OffsetsBeforeLog stores committed offsets without syncing the log first.
	OffsetsBeforeLog Bug = "progress: offsets before log"

	// LogSkipChecksum takes any record that is whole in structure.
	LogSkipChecksum Bug = "commitlog: checksum not verified"
	// LogSkipPosition takes a record that names another position: a stale one.
	LogSkipPosition Bug = "commitlog: position not verified"
	// LogAckBeforeSync answers an OnDisk append before the sync.
	LogAckBeforeSync Bug = "commitlog: answered before the sync"
	// LogKeepTail leaves bytes behind the recovered end as they are.
	LogKeepTail Bug = "commitlog: tail not zeroed"
	// LogTrustTail serves what recovery found without writing and syncing it.
	LogTrustTail Bug = "commitlog: recovered tail not rewritten"
	// LogRetrySync takes the second answer of a sync that failed.
	LogRetrySync Bug = "commitlog: failed sync retried"
	// LogEarlyVisible shows records of an OnDisk log before they are synced.
	LogEarlyVisible Bug = "commitlog: visible before synced"
	// LogKeepHalfGroup keeps the part of an atomic group that a crash left.
	LogKeepHalfGroup Bug = "commitlog: half a group kept"
	// LogEarlyWatermark saves the watermark before the sync that it tells of.
	LogEarlyWatermark Bug = "commitlog: watermark ahead of the sync"

	// KVNamesAnyOrder leaves the order of unsynced names below Pebble to chance.
	KVNamesAnyOrder Bug = "kv: names not synced before what relies on them"
	// KVLogNotSynced acknowledges a batch whose log was not synced.
	KVLogNotSynced Bug = "kv: log not synced"
)
