// Package rules holds no code, only tests: what the whole repository keeps to.
//
//   - imports_test.go: which folder may import what.
//   - engine_test.go: what the Engine interfaces of producer and consumer name.
//   - source_test.go: what library code never does, and words that no file holds.
//   - docs_test.go: every exported identifier has a comment.
//   - examples_test.go: every function that users call first has an Example.
//   - readme_test.go: the code of README and guides compiles, runs, and prints what they say;
//     every other block is executed somewhere, and commands name tests that exist.
//   - semantics_test.go: docs/semantics.md is complete and names tests that exist.
//
// A rule applies from the day on which its folder appears. A folder without a
// rule fails the test, so that nobody forgets to write one.
package rules
