package typed_test

import "os"

func tempDir() (dir string, remove func()) {
	dir, err := os.MkdirTemp("", "typed-")
	if err != nil {
		panic(err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }
}
