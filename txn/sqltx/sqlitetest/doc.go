// Package sqlitetest holds the tests of sqltx on SQLite. It is a module of its
// own, so that nobody who uses sqltx compiles SQLite.
package sqlitetest
