// Package embermqtest is for the tests of programs that use EmberMQ: a store in
// memory, a clock that stands still, crashes on demand, and assertions that wait
// without sleeping.
//
// New gives a Store, which is a *store.Store with a simulated disk and clock below
// it. Pass it to producers and consumers as their engine, with WithClock(s.Clock())
// when their waiting shall follow Advance. The test closes it by itself and fails if
// a goroutine that was started after New is left over.
//
// Kill ends the process that has the store open, as SIGKILL does, and PowerCut the
// machine. Both return the store that a new process opens; producers and consumers
// of the old one are over.
//
// # Concurrency
//
// A Store's methods may be called from several goroutines, but for Kill, PowerCut
// and the assertions, which belong to the test's own.
package embermqtest
