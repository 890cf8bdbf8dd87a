//go:build !linux

package fs

func stepwise() (restore func()) { return func() {} }
