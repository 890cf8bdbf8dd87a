// Package oracle runs Apache RocketMQ's own store as a child process, for tests
// that compare with it. The Java program lies beside it; Maven builds it into
// target/ when that is missing or older than its sources.
//
// A JVM is one process that serves many stores over a line protocol. A Store is
// one directory that it has open. Halt ends the process as kill -9 does: every
// store that is open then leaves the directory of a crash.
//
// All methods may be called by several goroutines at once. Calls for one store
// run one after the other, others side by side.
package oracle
