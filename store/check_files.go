package store

import (
	"errors"
	"fmt"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/kv"
)

// files checks what is neither log, queue nor index: the files of our own folder,
// and the names in RocketMQ's, whose loader stumbles over strangers.
func (c *checker) files() error {
	for _, check := range []func() error{c.root, c.state, c.format, c.foreign} {
		if err := check(); err != nil {
			return err
		}
	}
	report := func(path string, off int64, reason string) { c.damage(path, off, "%s", reason) }
	if err := c.s.log.CheckFiles(report); err != nil {
		return err
	}
	return c.s.queues.CheckImage(report)
}

func belongsInRoot(e fs.Entry) bool {
	switch e.Name {
	case dirState, dirLog, dirQueues, dirIndex, "config", "checkpoint", "lock", abortName, abortName + ".bak", "lost+found",
		"timerwheel", "timerlog", "compaction", "consumequeue_ext": // RocketMQ's own
		return true
	}
	return false
}

func belongsInState(e fs.Entry) bool {
	switch e.Name {
	case formatName, syncedName, foreignName, "queues", "index":
		return !e.Dir
	case formatName + ".tmp", syncedName + ".tmp", foreignName + ".tmp", importName + ".tmp", abortName + ".tmp", "queues.tmp", "index.tmp":
		return true // what a crash leaves; the next write of that file removes it
	case dirMeta, "aside":
		return e.Dir
	}
	return false
}

func (c *checker) root() error {
	entries, err := c.s.root.List(".")
	if err != nil {
		return fmt.Errorf("store: list %s: %w", c.s.root.Path("."), err)
	}
	for _, e := range entries {
		if !belongsInRoot(e) {
			c.damage(c.s.root.Path(e.Name), 0, "stray name in the store's directory")
		}
	}
	return nil
}

func (c *checker) state() error {
	entries, err := c.s.state.List(".")
	if err != nil {
		return fmt.Errorf("store: list %s: %w", c.s.state.Path("."), err)
	}
	for _, e := range entries {
		if !belongsInState(e) {
			c.damage(c.s.state.Path(e.Name), 0, "stray file")
		}
	}
	return nil
}

func (c *checker) format() error {
	f, found, err := readFormat(c.s.state)
	switch {
	case errors.Is(err, ErrCorrupt):
		c.add(err)
	case errors.Is(err, ErrUnknownFormat):
		c.damage(c.s.state.Path(formatName), 0, "another format version than at Open")
	case err != nil:
		return err
	case !found:
		c.damage(c.s.state.Path(formatName), 0, "missing")
	case f != c.s.format:
		c.damage(c.s.state.Path(formatName), 0, "changed since Open")
	}
	return nil
}

func (c *checker) foreign() error {
	rs, err := readForeign(c.s.state)
	if errors.Is(err, ErrCorrupt) {
		c.add(err)
		return nil
	}
	for i, r := range rs {
		if r.From < 0 || r.To <= r.From || i > 0 && r.From < rs[i-1].To {
			c.damage(c.s.state.Path(foreignName), 0, "ranges are out of order")
			break
		}
	}
	return err
}

// meta reads every row, which verifies Pebble's checksums, and decodes those of
// topics.
func (c *checker) meta() error {
	if c.s.db == nil {
		return nil
	}
	path := c.s.metaFS.Path(".")
	for row, err := range c.s.db.Scan(nil, nil) {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if errors.Is(err, kv.ErrCorrupt) {
			c.damage(path, 0, "%v", err)
			return nil
		}
		if err != nil {
			return mapMeta(err)
		}
		if name, ok := topicOfKey(row.Key); ok {
			if _, err := decodeTopicRow(name, row.Value); err != nil {
				c.damage(path, 0, "%v", err)
			}
		}
	}
	return nil
}
