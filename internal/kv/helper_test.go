package kv

import (
	"runtime"
	"testing"
	"time"
)

// until waits for a condition that must come true by itself.
func until(t testing.TB, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("the condition did not come true")
		}
	}
}
