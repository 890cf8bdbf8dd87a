package mutants

import "github.com/embermq/embermq/internal/plant"

// invariant is something that the store promises.
type invariant struct {
	name string
	says string
	// alone is the check, and the planted bug that it is shown with.
	alone mutant
	also  []string // folder/test of further checks
}

var invariants = []invariant{
	{"I1", "what was acknowledged OnDisk is readable, with its bytes and offset, after any chain of crashes",
		mutant{plant.LogAckBeforeSync, "commitlog", "TestCrash", logImages},
		[]string{"store/TestCrash", "store/TestKill", "store/TestRealPowerCut"}},
	{"I2", "no torn, stale or foreign bytes are ever returned as a message",
		mutant{plant.LogSkipPosition, "commitlog", "TestStaleRecord", ""},
		[]string{"commitlog/TestBitRot", "commitlog/TestCrash", "store/TestI02BitRot"}},
	{"I3", "recovery keeps a prefix of the log, and what was once served stays",
		mutant{plant.LogEarlyVisible, "commitlog", "TestCrash", logImages},
		[]string{"store/TestI03ServedStays", "store/TestCrash"}},
	{"I4", "queues are dense, and each entry leads to the record of its queue and offset",
		mutant{plant.StoreAnyEntry, "store", "TestWrongEntryIsRebuilt", ""},
		[]string{"consumequeue/TestCrash", "store/TestCheckNamesDamage"}},
	{"I5", "what is derived is a function of the log: delete it in any subset and the same comes back",
		mutant{plant.StoreForgetsStarts, "store", "TestViewSubsets", ""},
		[]string{"index/TestCrash", "store/TestCrash"}},
	{"I6", "after a failed write or sync nothing is acknowledged, reads go on, and the next Open relies on no cache",
		mutant{plant.LogRetrySync, "store", "TestI06FailedSync", ""},
		[]string{"commitlog/TestEveryOperationFails", "store/TestEveryOperationFails"}},
	{"I7", "a full disk is an error at once that goes away by itself, and loses nothing",
		mutant{plant.KVFullIsFatal, "internal/kv", "TestFullDiskWaitsAndResumes", ""},
		[]string{"store/TestFullDiskSimulated", "store/TestFullDiskReal", "store/TestI07FillAndFree", "store/TestEveryOperationFails"}},
	{"I8", "a committed offset never lies behind what is durable, and never moves by itself",
		mutant{plant.OffsetsBeforeLog, "progress", "TestModel", ""},
		[]string{"progress/TestPowerCut", "store/TestCrash"}},
	{"I9", "a timer is delivered exactly once and never early",
		mutant{plant.TimerEarly, "schedule", "TestModel", ""},
		[]string{"schedule/TestClockJumps", "schedule/TestPowerCut", "store/TestFortyDays"}},
	{"I10", "a half message is invisible until it is committed, and exactly one verdict wins",
		mutant{plant.HalfForgetsVerdict, "txn", "TestStateMachine", ""},
		[]string{"txn/TestRaces", "store/TestHalvesCrash"}},
	{"I11", "what Close has returned for survives a power cut, and opening twice changes nothing",
		mutant{plant.StoreCloseUnsaved, "store", "TestI11CloseAndOpen", ""},
		[]string{"store/TestRecoveryClean", "store/TestCrash"}},
	{"I12", "retention takes whole segments that no group needs, and they do not return",
		mutant{plant.StoreExpiresUnread, "store", "TestRetentionGuard", ""},
		[]string{"store/TestRecoveryFirstSegment", "store/TestCrash"}},
	{"I13", "no bytes in any file crash the program, hang it or take memory without bound",
		mutant{plant.IndexPrevUnchecked, "index", "TestDamageIsReported", ""},
		[]string{"commitlog/FuzzOpen", "message/FuzzRecord", "store/TestI02BitRot"}},
	{"I14", "damage in the middle never shortens the log silently: it is named, and the rest stays",
		mutant{plant.LogRotIsTail, "store", "TestRecoveryRotBehindW", ""},
		[]string{"store/TestI02BitRot", "store/TestRepair"}},
	{"I15", "no byte that is derived from a record reaches a file before the record is synced",
		mutant{plant.StoreMarkAhead, "store", "TestI15Law", ""},
		[]string{"store/TestCrash", "consumequeue/TestCrash", "index/TestCrash"}},
	{"I16", "each queue behaves as one that is used by one caller at a time",
		mutant{plant.DedupeNoClaim, "store", "TestI16Linearizable", ""},
		[]string{"store/TestEverythingAtOnce", "dedupe/TestRace"}},
	{"I17", "the formats are frozen: what was written opens, and what is newer is refused",
		mutant{plant.StoreAnyFormat, "store", "TestI17FormatIsFrozen", ""},
		[]string{"message/TestGoldenEncode", "consumequeue/TestGoldenImage", "index/TestGolden", "commitlog/TestSlotGolden"}},
}
