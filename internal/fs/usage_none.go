//go:build !linux && !windows && !darwin && !freebsd && !dragonfly

package fs

import "os"

func usage(*os.File) (Usage, error) { return Usage{}, ErrUnsupported }
