// Package mutants is the test of the tests. Its table names mistakes that are
// planted in the library (package plant), and for each the test that must fail
// when it is compiled in; a second table names what the store promises, the tests
// that check each promise, and a mistake that its own check finds and those of the
// other promises do not: the matrix of all of them is printed. Both are tests
// themselves: a name that does not exist fails the build.
//
// # Adding a planted bug
//
// 1. Give it a name in internal/plant/plant.go:
//
//	// LogForgetsToSync …
//	LogForgetsToSync Bug = "commitlog: …"
//
// 2. Plant it where it belongs:
//
//	if !(plant.Enabled && plant.Is(plant.LogForgetsToSync)) {
//
// 3. Add a row to the table in table_test.go: name, folder, test, its flags.
//
//	{plant.LogForgetsToSync, "commitlog", "TestCrash", ""},
//
// Then
//
//	go test -tags plant ./internal/crash/mutants -run 'TestMutants/LogForgets' -v
//
// builds the tests of that folder with the mistakes in them, starts the test with
// the bug in EMBERMQ_PLANT, and demands that it fails within -mutants.limit.
package mutants
