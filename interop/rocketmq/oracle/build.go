package oracle

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/embermq/embermq/internal/fs"
)

// ErrMissing says that java or mvn is not installed.
var ErrMissing = errors.New("oracle: java and mvn (JDK 17) are needed")

// Profile names a class path that Maven resolves.
type Profile string

// The profiles of pom.xml.
const (
	StoreOnly  Profile = ""       // store, filter and client
	WithBroker Profile = "broker" // also broker and name server
)

func (p Profile) file() string {
	if p == StoreOnly {
		return "classpath.txt"
	}
	return "classpath-" + string(p) + ".txt"
}

// ClassPath builds the Java program if that is needed and returns its class
// path. The first build downloads about 70 MB, for the broker more; later ones
// work offline. Processes that build at the same time take turns.
func ClassPath(ctx context.Context, p Profile) (string, error) {
	for _, name := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(name); err != nil {
			return "", fmt.Errorf("%w: %s is not in PATH", ErrMissing, name)
		}
	}
	_, self, _, _ := runtime.Caller(0)
	dir := filepath.Dir(self)
	target := filepath.Join(dir, "target")
	unlock, err := lockBuild(ctx, target)
	if err != nil {
		return "", err
	}
	defer unlock()
	file := filepath.Join(target, p.file())
	stale, err := isStale(dir, file)
	if err != nil {
		return "", err
	}
	if stale {
		args := []string{"-q", "-B", "compile"}
		if p != StoreOnly {
			args = append(args, "-P"+string(p))
		}
		cmd := exec.CommandContext(ctx, "mvn", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("oracle: mvn: %w\n%s", err, out)
		}
		// Maven leaves a file alone whose text is the same as before.
		now := time.Now()
		if err := os.Chtimes(file, now, now); err != nil {
			return "", fmt.Errorf("oracle: %w", err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("oracle: %w", err)
	}
	return filepath.Join(target, "classes") + string(filepath.ListSeparator) + strings.TrimSpace(string(b)), nil
}

// lockBuild excludes other processes from the target folder.
func lockBuild(ctx context.Context, target string) (unlock func() error, err error) {
	folder, err := fs.MakeOS(target)
	if err != nil {
		return nil, fmt.Errorf("oracle: %w", err)
	}
	for {
		l, err := folder.Lock("lock")
		if err == nil {
			return func() error { return errors.Join(l.Close(), folder.Close()) }, nil
		}
		if !errors.Is(err, fs.ErrLockHeld) {
			return nil, errors.Join(fmt.Errorf("oracle: %w", err), folder.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("oracle: wait for another build: %w", ctx.Err()), folder.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// isStale reports whether pom.xml or a source is newer than the built file, or a
// jar that it names is gone.
func isStale(dir, built string) (bool, error) {
	info, err := os.Stat(built)
	if errors.Is(err, iofs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("oracle: %w", err)
	}
	b, err := os.ReadFile(built)
	if err != nil {
		return false, fmt.Errorf("oracle: %w", err)
	}
	for jar := range strings.SplitSeq(strings.TrimSpace(string(b)), string(filepath.ListSeparator)) {
		if _, err := os.Stat(jar); err != nil {
			return true, nil
		}
	}
	stale := false
	sources := func(path string, e iofs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		i, err := e.Info()
		if err == nil && i.ModTime().After(info.ModTime()) {
			stale = true
		}
		return err
	}
	for _, from := range []string{"pom.xml", "src"} {
		if err := filepath.WalkDir(filepath.Join(dir, from), sources); err != nil {
			return false, fmt.Errorf("oracle: %w", err)
		}
	}
	return stale, nil
}
