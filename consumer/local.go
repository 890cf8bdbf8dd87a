package consumer

import (
	"fmt"
	"io"
	"sync"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// localOptions say where a broadcasting consumer keeps its offsets.
type localOptions struct {
	dir      string // empty: in the user's home
	instance string
	rocketmq bool
	broker   string
	last     bool
}

// DefaultInstance is the instance name of a broadcasting consumer that has no
// other.
const DefaultInstance = "DEFAULT"

// WithLocalOffsets names the folder below which a broadcasting consumer keeps its
// offsets, in <dir>/<instance>/<group>/offsets.json. The default is
// .embermq_offsets in the user's home. The folder must be the same after a
// restart: without its file, an instance starts as if it were new.
func WithLocalOffsets(dir string) Option {
	return func(o *options) {
		if dir == "" {
			o.reject("WithLocalOffsets", "no folder")
			return
		}
		o.local.dir = dir
	}
}

// WithInstance names this instance of a broadcasting group, DefaultInstance by
// default. Instances of one group that share a folder need different names, which
// must be the same after a restart: the second one of a name gets ErrLocked. A
// name has the characters of a group, '.' and '@'.
func WithInstance(name string) Option {
	return func(o *options) {
		if err := checkInstance(name); err != nil {
			o.reject("WithInstance", "%v", err)
			return
		}
		o.local.instance = name
	}
}

// WithRocketMQOffsets keeps a broadcasting consumer's offsets where and as
// RocketMQ's Java client does, in .rocketmq_offsets of the user's home unless
// WithLocalOffsets says otherwise; the instance is RocketMQ's client id, such as
// "10.0.0.5@DEFAULT". That file names a broker; offsets of other brokers stay as
// they are.
func WithRocketMQOffsets(broker string) Option {
	return func(o *options) {
		if broker == "" {
			o.reject("WithRocketMQOffsets", "no broker name")
			return
		}
		o.local.rocketmq, o.local.broker = true, broker
	}
}

// WithAlwaysLast makes a broadcasting consumer begin with what comes after its
// start, every time. It keeps no file.
func WithAlwaysLast() Option { return func(o *options) { o.local.last = true } }

// localOffsets are the offsets of one instance of a broadcasting group.
// All methods may be called by several goroutines.
type localOffsets struct {
	group string
	dir   fs.FS // nil: nothing is kept
	lock  io.Closer
	form  localForm
	// restored says that the file was broken and its backup was read.
	restored bool

	saving sync.Mutex // one save at a time
	kept   []byte     // what the file holds, or its backup if it is broken; nil: no file

	mu      sync.Mutex
	offsets map[message.Queue]int64
	changed bool
	closed  bool
}

// get is the offset to read next in a queue; ok is false if there is none.
func (l *localOffsets) get(q message.Queue) (next int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next, ok = l.offsets[q]
	return next, ok
}

// set notes the offset to read next, which may go back. It is on disk after save.
func (l *localOffsets) set(q message.Queue, next int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.offsets[q]; ok && old == next {
		return
	}
	l.offsets[q] = next
	l.changed = true
}

// save puts what has changed on disk.
func (l *localOffsets) save() error {
	l.saving.Lock()
	defer l.saving.Unlock()
	l.mu.Lock()
	if !l.changed || l.dir == nil {
		l.mu.Unlock()
		return nil
	}
	b, err := l.form.encode(l.group, l.offsets)
	l.changed = false
	l.mu.Unlock()
	if err == nil {
		err = l.replace(b)
	}
	if err != nil {
		l.mu.Lock()
		l.changed = true
		l.mu.Unlock()
		return fmt.Errorf("consumer: save offsets: %w", err)
	}
	return nil
}

// close saves and gives the folder free. Only the first call does anything.
func (l *localOffsets) close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		return nil
	}
	err := l.save()
	if l.lock != nil {
		if e := l.lock.Close(); err == nil {
			err = e
		}
	}
	if l.dir != nil {
		if e := l.dir.Close(); err == nil {
			err = e
		}
	}
	return err
}
