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
	// QueueSumUnchecked reads sealed queue files without comparing their checksums.
	QueueSumUnchecked Bug = "queue-sum-unchecked"
	// OffsetsBeforeLog stores committed offsets without syncing the log first.
	OffsetsBeforeLog Bug = "progress: offsets before log"
	// OldSettlements obeys records that settle under an epoch that is over.
	OldSettlements Bug = "progress: settlements of an older epoch count"

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
	// LogOnlySyncTail syncs what recovery found without writing it once more.
	LogOnlySyncTail Bug = "commitlog: recovered tail synced, not rewritten"
	// LogRetrySync takes the second answer of a sync that failed.
	LogRetrySync Bug = "commitlog: failed sync retried"
	// LogEarlyVisible shows records of an OnDisk log before they are synced.
	LogEarlyVisible Bug = "commitlog: visible before synced"
	// LogKeepHalfGroup keeps the part of an atomic group that a crash left.
	LogKeepHalfGroup Bug = "commitlog: half a group kept"
	// LogEarlyWatermark saves the watermark before the sync that it tells of.
	LogEarlyWatermark Bug = "commitlog: watermark ahead of the sync"

	// LogNameUnsynced leaves the name of a further segment to chance.
	LogNameUnsynced Bug = "commitlog: name of a new segment not synced"
	// LogRotIsTail takes any bad record for the torn end of the log.
	LogRotIsTail Bug = "commitlog: damage taken for a torn tail"

	// KVNamesAnyOrder leaves the order of unsynced names below Pebble to chance.
	KVNamesAnyOrder Bug = "kv: names not synced before what relies on them"
	// KVLogNotSynced acknowledges a batch whose log was not synced.
	KVLogNotSynced Bug = "kv: log not synced"
	// KVFullIsFatal poisons meta when the disk is full.
	KVFullIsFatal Bug = "kv: a full disk is for ever"

	// IndexAheadOfLog writes index entries to files before the log has synced
	// their records.
	IndexAheadOfLog Bug = "index-ahead-of-log"
	// IndexSaveWithoutSync saves the state without making the files durable first.
	IndexSaveWithoutSync Bug = "index-save-without-sync"
	// IndexTrustsSlots reads the active file's slots after an unclean close.
	IndexTrustsSlots Bug = "index-trusts-slots"
	// IndexPrevUnchecked follows a chain wherever it leads.
	IndexPrevUnchecked Bug = "index-prev-unchecked"
	// IndexRemovesEarly removes expired files before the state that no longer
	// names them is durable.
	IndexRemovesEarly Bug = "index-removes-early"

	// StoreNoAbort leaves the mark of an open directory out.
	StoreNoAbort Bug = "store: abort not written"
	// StoreMarkAhead saves views and their marks before the log is synced.
	StoreMarkAhead Bug = "store: marks saved without syncing the log"
	// StoreTopicUnsynced takes records of a topic whose row may still be lost.
	StoreTopicUnsynced Bug = "store: topic not on disk before its first record"
	// StoreForgetsDeletion leaves deletions out of a replay.
	StoreForgetsDeletion Bug = "store: replay forgets deletions"
	// StoreKeepsOffsets leaves the offsets of a topic that a replay deletes.
	StoreKeepsOffsets Bug = "store: offsets of deleted topics kept"
	// StoreForgetsStarts leaves to the log where queues begin.
	StoreForgetsStarts Bug = "store: starts of queues not saved before the log is cut"
	// StoreEarlyFormat says that a directory is a store before its parts are there.
	StoreEarlyFormat Bug = "store: FORMAT written first"
	// StoreTrustsMarks takes any saved mark, whatever the log holds there.
	StoreTrustsMarks Bug = "store: marks not compared with the log"
	// StoreReplaysLate starts one record late.
	StoreReplaysLate Bug = "store: replay begins behind the first record"
	// StoreNoClamp leaves offsets that lie behind their queue's end.
	StoreNoClamp Bug = "store: offsets not clamped"
	// StoreAnyFormat opens directories of a later format version.
	StoreAnyFormat Bug = "store: format version not compared"
	// StoreExpiresUnread lets retention take what a group has not settled.
	StoreExpiresUnread Bug = "store: retention asks no group"
	// StoreCloseUnsaved closes without a last checkpoint.
	StoreCloseUnsaved Bug = "store: views not saved by Close"
	// StoreAnyEntry takes whatever record a queue entry leads to.
	StoreAnyEntry Bug = "store: record not compared with its queue"

	// StoreSettlesLater settles a record in a second step behind its copy.
	StoreSettlesLater Bug = "store: copy does not say what it settles"
	// StorePlaceUnsynced relies on a first place that may still be lost.
	StorePlaceUnsynced Bug = "store: first place not on disk"
	// StoreBuriesFirst appends a dead letter ahead of what was settled before it.
	StoreBuriesFirst Bug = "store: dead letter ahead of earlier settles"

	// TimerEarly fires a timer a millisecond before it is due.
	TimerEarly Bug = "schedule: fired early"
	// TimerUnmarked leaves out of a fired message which timer it ends.
	TimerUnmarked Bug = "schedule: fired message not marked"
	// TimerKeepsRow leaves the rows of ended timers on disk.
	TimerKeepsRow Bug = "schedule: rows of ended timers kept"
	// TimerLoadsDead loads rows that ended timers still have until the next save.
	TimerLoadsDead Bug = "schedule: rows of ended timers loaded"
	// TimerForgetsAhead forgets that a save may have been cut off half way.
	TimerForgetsAhead Bug = "schedule: rows ahead of the mark forgotten"
	// TimerCancelsFiring cancels a timer that an append is just delivering.
	TimerCancelsFiring Bug = "schedule: cancelled while it is fired"

	// HalfKeepsRow leaves the rows of ended halves on disk.
	HalfKeepsRow Bug = "txn: rows of ended halves kept"
	// HalfForgetsVerdict does not remember how a half has ended.
	HalfForgetsVerdict Bug = "txn: verdict not remembered"
	// HalfDecidedTwice appends a verdict while another one is being appended.
	HalfDecidedTwice Bug = "txn: two verdicts at once"
	// HalfCommitUnmarked writes the visible copy without its verdict.
	HalfCommitUnmarked Bug = "txn: committed without a verdict"
	// HalfLateTaken takes an application's transaction that comes after the verdict.
	HalfLateTaken Bug = "txn: application's transaction after the verdict"
	// HalfRevived carries a half that was given up back among the pending ones.
	HalfRevived Bug = "txn: given up, carried as pending"

	// DedupeNoClaim lets two puts of one key append at the same time.
	DedupeNoClaim Bug = "dedupe: key not claimed"
	// DedupeSavesMarkOnly saves the mark of the window without its entries.
	DedupeSavesMarkOnly Bug = "dedupe: mark saved without entries"
)
