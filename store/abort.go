package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"strconv"
	"strings"

	"github.com/embermq/embermq/internal/fs"
)

// abortName is RocketMQ's marker of an unclean end. Ours holds the process id,
// as Java's does, and a random number that the log's watermark holds too: an
// abort with another number, or none after an unclean end, means that another
// program has written to the directory meanwhile.
const abortName = "abort"

// abortTemp is where the marker is made, in the state folder: RocketMQ looks at
// everything beside abort.
const abortTemp = dirState + "/abort.tmp"

// owner identifies one opening of a directory, or several that were not closed.
type owner struct {
	pid   int
	nonce uint64 // never 0
}

// newOwner keeps the number of a previous opening that was not closed.
//
// Invariant: while the log may have a torn tail, abort holds the watermark's number
// at every moment. With another one, a record whose end did not reach the disk
// looks like one that another program wrote, without our checksum, and is served.
func newOwner(pid int, previous owner) owner {
	if previous.nonce != 0 {
		return owner{pid, previous.nonce}
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return owner{pid, binary.BigEndian.Uint64(b[:]) | 1}
}

// readAbort returns who has the directory open or did not close it. A zero
// nonce with found set means that another program wrote the file.
func readAbort(root fs.FS) (o owner, found bool, err error) {
	b, err := fs.Read(root, abortName)
	if errors.Is(err, iofs.ErrNotExist) {
		return o, false, nil
	}
	if err != nil {
		return o, false, fmt.Errorf("store: read %s: %w", root.Path(abortName), err)
	}
	if len(b) > 256 {
		b = b[:256]
	}
	pid, nonce, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	o.pid, _ = strconv.Atoi(pid)
	o.nonce, _ = strconv.ParseUint(nonce, 16, 64)
	return o, true, nil
}

// writeAbort makes the marker durable before anything else is changed. A crash
// leaves the marker before or this one, never a part of it.
func writeAbort(root fs.FS, o owner) error {
	err := makeAbort(root, o)
	if err == nil {
		err = root.Rename(abortTemp, abortName)
	}
	if err == nil {
		err = root.SyncDir(".")
	}
	if err != nil {
		return fmt.Errorf("store: mark the directory as open: %w", err)
	}
	return nil
}

func makeAbort(root fs.FS, o owner) error {
	f, err := root.Open(abortTemp, fs.Create)
	if err != nil {
		return err
	}
	b := fmt.Appendf(nil, "%d %016x", o.pid, o.nonce)
	err = f.Truncate(int64(len(b)))
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func removeAbort(root fs.FS) error {
	if err := root.Remove(abortName); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("store: mark the directory as closed: %w", err)
	}
	if err := root.SyncDir("."); err != nil {
		return fmt.Errorf("store: mark the directory as closed: %w", err)
	}
	return nil
}

// takeLock excludes every other opener, Java's included.
func takeLock(root fs.FS) (io.Closer, error) {
	l, err := root.Lock("lock")
	if !errors.Is(err, fs.ErrLockHeld) {
		if err != nil {
			return nil, fmt.Errorf("store: lock %s: %w", root.Path("lock"), err)
		}
		return l, nil
	}
	// The holder's number comes from abort: opening and closing the lock file
	// here would release a lock that this process holds in another way.
	o, _, _ := readAbort(root)
	return nil, &LockedError{Dir: root.Path("."), PID: o.pid}
}

// heldElsewhere reports whether another opener has the directory, without
// making, changing or locking anything.
func heldElsewhere(root fs.FS) bool {
	held, err := root.Locked("lock")
	if errors.Is(err, iofs.ErrNotExist) {
		return false
	}
	return held || err != nil // if nobody can say, believe no more than the watermark does
}
