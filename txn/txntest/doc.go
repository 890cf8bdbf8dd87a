// Package txntest checks that a database keeps to what txn.Resource asks for: the
// same script on every database, with a crash between every pair of steps.
//
// A Machine is a log in memory with a txn.Coordinator on it; nothing else of a
// store is there, so that many thousand crashes can be looked at. A Database is
// the application's own, with the resource that is tested.
//
// Nothing here is durable, and one goroutine uses a Machine at a time.
//
// This package carries no compatibility promise before 1.0.
package txntest
