// Package sqltest makes random SQL92 filters and messages for them, and says in
// the plainest way what a filter must answer. Tests compare the real filters
// with it, and with RocketMQ's own.
//
// The evaluation here shares nothing with the real one: it takes the tree that
// the generator drew and never parses a text; values are Go's any, numbers are
// recognised by regular expressions, and whatever cannot go on is a panic.
package sqltest
