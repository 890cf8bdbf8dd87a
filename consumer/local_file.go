package consumer

import (
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

const (
	localName   = "offsets.json"
	localBackup = "offsets.json.bak"
	localLock   = "lock"

	// maxLocal bounds what is read: 64 MiB are about a million queues.
	maxLocal = 64 << 20
)

// checkInstance keeps what could lead a path astray out of an instance's name.
func checkInstance(name string) error {
	fail := func(reason string) error {
		return &message.NameError{Kind: "instance", Name: name, Reason: reason}
	}
	if name == "" || name == "." || name == ".." || len(name) > 120 {
		return fail("empty, longer than 120 characters, or a folder's own")
	}
	if name[len(name)-1] == '.' {
		return fail("ends with a dot")
	}
	for _, r := range name {
		ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.' || r == '@'
		if !ok {
			return fail(fmt.Sprintf("character %q", r))
		}
	}
	return nil
}

// openLocal opens the offsets of this instance of a group.
func openLocal(o localOptions, group string) (*localOffsets, error) {
	if err := message.CheckGroup(group); err != nil {
		return nil, err
	}
	if o.last {
		return &localOffsets{group: group, offsets: make(map[message.Queue]int64)}, nil
	}
	at := o.dir
	if at == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("consumer: offsets: no folder was named: %w", err)
		}
		at = filepath.Join(home, ".embermq_offsets")
		if o.rocketmq {
			at = filepath.Join(home, ".rocketmq_offsets")
		}
	}
	instance := o.instance
	if instance == "" {
		instance = DefaultInstance
	}
	dir, err := fs.MakeOS(filepath.Join(at, instance, group))
	if err != nil {
		return nil, fmt.Errorf("consumer: offsets: %w", err)
	}
	l, err := loadLocal(dir, o, group)
	if err != nil {
		_ = dir.Close()
		return nil, err
	}
	return l, nil
}

// loadLocal locks a folder and reads its offsets. The folder is the caller's to
// close after an error.
func loadLocal(dir fs.FS, o localOptions, group string) (*localOffsets, error) {
	l := &localOffsets{group: group, dir: dir, form: emberForm{}}
	if o.rocketmq {
		l.form = &rocketForm{broker: o.broker}
	}
	lock, err := dir.Lock(localLock)
	if errors.Is(err, fs.ErrLockHeld) {
		return nil, fmt.Errorf("consumer: offsets in %s: another instance of this name runs: %w", dir.Path("."), message.ErrLocked)
	}
	if err != nil && !errors.Is(err, fs.ErrUnsupported) {
		return nil, fmt.Errorf("consumer: offsets: %w", err)
	}
	l.lock = lock
	if err := l.load(); err != nil {
		if lock != nil {
			_ = lock.Close()
		}
		return nil, fmt.Errorf("consumer: offsets: %w", err)
	}
	return l, nil
}

// load reads the file. A missing one is a first start. A broken one is replaced
// by what stood in it before; that file may be missing only if the first is
// whole.
func (l *localOffsets) load() error {
	err := l.read(localName)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, iofs.ErrNotExist):
		// Java removes the file before it renames the new one. We do not, so
		// that somebody has removed ours on purpose.
		if l.form.atomic() {
			return nil
		}
		if err = l.read(localBackup); errors.Is(err, iofs.ErrNotExist) {
			return nil
		}
		return err
	case !errors.Is(err, message.ErrCorrupt):
		return err
	}
	if e := l.read(localBackup); e != nil {
		return errors.Join(err, e)
	}
	l.restored = true
	return nil
}

// read takes the offsets from one file. If it cannot, it changes nothing.
func (l *localOffsets) read(name string) error {
	l.offsets = make(map[message.Queue]int64)
	info, err := l.dir.Stat(name)
	if err != nil {
		return err
	}
	broken := func(reason string, cause error) error {
		return &message.CorruptError{Path: l.dir.Path(name), Reason: reason, Err: cause}
	}
	if info.Size > maxLocal {
		return broken("larger than any file of offsets", nil)
	}
	b, err := fs.Read(l.dir, name)
	if err != nil {
		return err
	}
	offsets, err := l.form.decode(l.group, b)
	if errors.Is(err, message.ErrUnknownFormat) {
		return fmt.Errorf("%s: %w", l.dir.Path(name), err)
	}
	if err != nil {
		return broken("not a file of offsets", err)
	}
	l.offsets, l.kept = offsets, b
	return nil
}

// replace puts the old bytes into the backup and the new ones into the file.
// Either has, after a crash at any moment, its old bytes or its new ones.
func (l *localOffsets) replace(b []byte) error {
	if l.kept != nil {
		if err := fs.WriteFile(l.dir, localBackup, l.kept); err != nil {
			return err
		}
	}
	if err := fs.WriteFile(l.dir, localName, b); err != nil {
		return err
	}
	l.kept = b
	return nil
}

// localForm is how offsets stand in a file.
type localForm interface {
	encode(group string, offsets map[message.Queue]int64) ([]byte, error)
	// decode returns ErrUnknownFormat for what a later version has written; any
	// other error means damage.
	decode(group string, b []byte) (map[message.Queue]int64, error)
	// atomic says that whoever writes this form never leaves the file missing.
	atomic() bool
}

// emberForm is our own, version 1:
//
//	{"version":1,"group":"g","offsets":[{"topic":"t","queue":0,"offset":123}]}
type emberForm struct{}

// emberVersion is on disk. Do not renumber.
const emberVersion = 1

type emberFile struct {
	Version int          `json:"version"`
	Group   string       `json:"group"`
	Offsets []emberEntry `json:"offsets"`
}

type emberEntry struct {
	Topic  string `json:"topic"`
	Queue  int32  `json:"queue"`
	Offset int64  `json:"offset"`
}

func (emberForm) atomic() bool { return true }

func (emberForm) encode(group string, offsets map[message.Queue]int64) ([]byte, error) {
	f := emberFile{Version: emberVersion, Group: group, Offsets: make([]emberEntry, 0, len(offsets))}
	for _, q := range sortedQueues(offsets) {
		f.Offsets = append(f.Offsets, emberEntry{q.Topic, q.ID, offsets[q]})
	}
	b, err := json.Marshal(f)
	return append(b, '\n'), err
}

func (emberForm) decode(group string, b []byte) (map[message.Queue]int64, error) {
	var f emberFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, err
	}
	switch {
	case f.Version > emberVersion:
		return nil, fmt.Errorf("version %d: %w", f.Version, message.ErrUnknownFormat)
	case f.Version != emberVersion:
		return nil, fmt.Errorf("version %d", f.Version)
	case f.Group != group:
		return nil, fmt.Errorf("of group %q", f.Group)
	}
	offsets := make(map[message.Queue]int64, len(f.Offsets))
	for _, e := range f.Offsets {
		if err := addLocal(offsets, message.Queue{Topic: e.Topic, ID: e.Queue}, e.Offset); err != nil {
			return nil, err
		}
	}
	return offsets, nil
}

func addLocal(offsets map[message.Queue]int64, q message.Queue, offset int64) error {
	if _, twice := offsets[q]; twice || q.Topic == "" || q.ID < 0 || offset < 0 {
		return fmt.Errorf("offset %d of %v", offset, q)
	}
	offsets[q] = offset
	return nil
}
