package mutants

import "github.com/embermq/embermq/internal/plant"

// mutant is a planted bug and the test that finds it. The bug's name tells where
// it is planted.
type mutant struct {
	bug    plant.Bug
	folder string
	test   string
	flags  string
}

// What the campaigns get to find a bug. They stop at the first violation.
const (
	logImages   = "-crash.images=400000"
	storeImages = "-crash.images=6000"
)

var table = []mutant{
	{plant.LogSkipChecksum, "commitlog", "TestCrash", logImages},
	{plant.LogSkipPosition, "commitlog", "TestStaleRecord", ""},
	{plant.LogAckBeforeSync, "commitlog", "TestCrash", logImages},
	{plant.LogKeepTail, "commitlog", "TestCrash", logImages},
	{plant.LogTrustTail, "commitlog", "TestCrash", logImages},
	{plant.LogOnlySyncTail, "commitlog", "TestCrash", logImages},
	{plant.LogRetrySync, "commitlog", "TestCrash", logImages},
	{plant.LogEarlyVisible, "commitlog", "TestCrash", logImages},
	{plant.LogKeepHalfGroup, "commitlog", "TestCrash", logImages},
	{plant.LogEarlyWatermark, "commitlog", "TestCrash", logImages},
	{plant.LogNameUnsynced, "store", "TestI01AcknowledgedSurvives", ""},
	{plant.LogRotIsTail, "store", "TestRecoveryRotBehindW", ""},

	{plant.QueueAheadOfLog, "consumequeue", "TestCrash", "-crash.seeds=90"},
	{plant.QueueSaveWithoutSync, "consumequeue", "TestCrash", "-crash.seeds=90"},
	{plant.QueueBlankAhead, "consumequeue", "TestCrash", "-crash.seeds=90"},
	{plant.QueueSumUnchecked, "store", "TestSealedQueueFiles", ""},
	{plant.QueueRemovesEarly, "consumequeue", "TestCrash", "-crash.seeds=90"},

	{plant.IndexAheadOfLog, "index", "TestCrash", "-index.seeds=40"},
	{plant.IndexSaveWithoutSync, "index", "TestCrash", "-index.seeds=40"},
	{plant.IndexTrustsSlots, "index", "TestCrash", "-index.seeds=40"},
	{plant.IndexRemovesEarly, "index", "TestCrash", "-index.seeds=40"},
	{plant.IndexPrevUnchecked, "index", "TestDamageIsReported", ""},

	{plant.KVNamesAnyOrder, "internal/kv", "TestPowerCutAtEveryOperation", ""},
	{plant.KVLogNotSynced, "internal/kv", "TestPowerCutAtEveryOperation", ""},
	{plant.KVFullIsFatal, "internal/kv", "TestFullDiskWaitsAndResumes", ""},

	{plant.OffsetsBeforeLog, "progress", "TestModel", ""},
	{plant.OldSettlements, "progress", "TestSettlementIsApplied", ""},

	{plant.TimerEarly, "schedule", "TestModel", ""},
	{plant.TimerUnmarked, "schedule", "TestModel", ""},
	{plant.TimerKeepsRow, "schedule", "TestModel", ""},
	{plant.TimerLoadsDead, "schedule", "TestModel", ""},
	{plant.TimerForgetsAhead, "schedule", "TestModel", ""},
	{plant.TimerCancelsFiring, "schedule", "TestCancelRaces", ""},

	{plant.HalfKeepsRow, "txn", "TestStateMachine", ""},
	{plant.HalfForgetsVerdict, "txn", "TestStateMachine", ""},
	{plant.HalfCommitUnmarked, "txn", "TestStateMachine", ""},
	{plant.HalfRevived, "txn", "TestStateMachine", ""},
	{plant.HalfDecidedTwice, "txn", "TestRaces", ""},
	{plant.HalfLateTaken, "txn/pebbletx", "TestCrash", ""},

	{plant.DedupeNoClaim, "dedupe", "TestRace", ""},
	{plant.DedupeSavesMarkOnly, "dedupe", "TestModel", ""},

	{plant.StoreNoAbort, "store", "TestCrash", storeImages},
	{plant.StoreMarkAhead, "store", "TestCrash", storeImages},
	{plant.StoreTopicUnsynced, "store", "TestCrash", storeImages},
	{plant.StoreForgetsDeletion, "store", "TestCrash", storeImages},
	{plant.StoreKeepsOffsets, "store", "TestCrash", storeImages},
	{plant.StoreForgetsStarts, "store", "TestCrash", storeImages},
	{plant.StoreEarlyFormat, "store", "TestCrash", storeImages},
	{plant.StoreReplaysLate, "store", "TestCrash", storeImages},
	{plant.StoreTrustsMarks, "store", "TestViewOtherMark", ""},
	{plant.StoreNoClamp, "store", "TestRecoveryClamp", ""},
	{plant.StoreSettlesLater, "store", "TestSettleCrash", "-settle.images=3000"},
	{plant.StorePlaceUnsynced, "store", "TestSettleCrash", "-settle.images=3000"},
	{plant.StoreBuriesFirst, "store", "TestSettleCrash", "-settle.images=3000"},
	{plant.StoreAnyFormat, "store", "TestI17FormatIsFrozen", ""},
	{plant.StoreExpiresUnread, "store", "TestRetentionGuard", ""},
	{plant.StoreCloseUnsaved, "store", "TestRecoveryClean", ""},
	{plant.StoreAnyEntry, "store", "TestI04EntryOfAnother", ""},
}
