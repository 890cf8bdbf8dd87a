package mutants

import "github.com/embermq/embermq/internal/plant"

// invariant is something that the store promises.
type invariant struct {
	name string
	says string
	// test is the check of package store that is about it and nothing else, and bug
	// the planted one that this test finds, and no other of the checks here does.
	test string
	bug  plant.Bug
	also []string // folder/test of larger tests, which see several invariants at once
}

var invariants = []invariant{
	{"I1", "what was acknowledged OnDisk is readable, with its bytes and offset, after any chain of crashes",
		"TestI01AcknowledgedSurvives", plant.LogNameUnsynced,
		[]string{"commitlog/TestCrash", "store/TestCrash", "store/TestKill", "store/TestRealPowerCut"}},
	{"I2", "no torn, stale or foreign bytes are ever returned as a message",
		"TestI02StaleRecord", plant.LogSkipPosition,
		[]string{"commitlog/TestBitRot", "commitlog/TestCrash", "store/TestI02BitRot"}},
	{"I3", "recovery keeps a prefix of the log, and what was once served stays",
		"TestI03ServedStays", plant.LogEarlyVisible,
		[]string{"commitlog/TestCrash", "store/TestCrash"}},
	{"I4", "queues are dense, and each entry leads to the record of its queue and offset",
		"TestI04EntryOfAnother", plant.StoreAnyEntry,
		[]string{"store/TestWrongEntryIsRebuilt", "consumequeue/TestCrash", "store/TestCheckNamesDamage"}},
	{"I5", "what is derived is a function of the log: delete it in any subset and the same comes back",
		"TestViewSubsets", plant.StoreForgetsStarts,
		[]string{"index/TestCrash", "store/TestCrash"}},
	{"I6", "after a failed write or sync nothing is acknowledged, reads go on, and the next Open relies on no cache",
		"TestI06FailedSync", plant.LogRetrySync,
		[]string{"commitlog/TestEveryOperationFails", "store/TestEveryOperationFails"}},
	{"I7", "a full disk is an error at once that goes away by itself, and loses nothing",
		"TestI07MetaWaitsForRoom", plant.KVFullIsFatal,
		[]string{"internal/kv/TestFullDiskWaitsAndResumes", "store/TestFullDiskSimulated", "store/TestFullDiskReal", "store/TestI07FillAndFree", "store/TestEveryOperationFails"}},
	{"I8", "a committed offset never lies behind what is durable, and never moves by itself",
		"TestI08OffsetAndEnd", plant.StoreNoClamp,
		[]string{"progress/TestModel", "progress/TestPowerCut", "store/TestCrash"}},
	{"I9", "a timer is delivered exactly once and never early",
		"TestI09OnceAndNotEarly", plant.TimerEarly,
		[]string{"schedule/TestModel", "schedule/TestClockJumps", "schedule/TestPowerCut", "store/TestFortyDays"}},
	{"I10", "a half message is invisible until it is committed, and exactly one verdict wins",
		"TestI10FirstVerdict", plant.HalfForgetsVerdict,
		[]string{"txn/TestStateMachine", "txn/TestRaces", "store/TestHalvesCrash"}},
	{"I11", "what Close has returned for survives a power cut, and opening twice changes nothing",
		"TestI11CloseAndOpen", plant.StoreCloseUnsaved,
		[]string{"store/TestRecoveryClean", "store/TestCrash"}},
	{"I12", "retention takes whole segments that no group needs, and they do not return",
		"TestRetentionGuard", plant.StoreExpiresUnread,
		[]string{"store/TestRecoveryFirstSegment", "store/TestCrash"}},
	{"I13", "no bytes in any file crash the program, hang it or take memory without bound",
		"TestI13CircleInIndex", plant.IndexPrevUnchecked,
		[]string{"index/TestDamageIsReported", "commitlog/FuzzOpen", "message/FuzzRecord", "store/TestI02BitRot"}},
	{"I14", "damage in the middle never shortens the log silently: it is named, and the rest stays",
		"TestRecoveryRotBehindW", plant.LogRotIsTail,
		[]string{"store/TestI02BitRot", "store/TestRepair"}},
	{"I15", "no byte that is derived from a record reaches a file before the record is synced",
		"TestI15Law", plant.StoreMarkAhead,
		[]string{"store/TestCrash", "consumequeue/TestCrash", "index/TestCrash"}},
	{"I16", "each queue behaves as one that is used by one caller at a time",
		"TestI16Linearizable", plant.DedupeNoClaim,
		[]string{"store/TestEverythingAtOnce", "dedupe/TestRace"}},
	{"I17", "the formats are frozen: what was written opens, and what is newer is refused",
		"TestI17FormatIsFrozen", plant.StoreAnyFormat,
		[]string{"message/TestGoldenEncode", "consumequeue/TestGoldenImage", "index/TestGolden", "commitlog/TestSlotGolden"}},
}
