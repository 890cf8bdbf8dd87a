package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	iofs "io/fs"
	"path"
	"strconv"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/schedule"
)

// Import tells what Open took over from Apache RocketMQ.
type Import struct {
	Topics  int // of config/topics.json
	Groups  int // with at least one offset, or with settings
	Offsets int // committed offsets
	// Pending are the delayed messages that wait here now, Halves the half
	// messages. The others in the log were delivered or decided: they are left out.
	Pending, TimersLeftOut int64
	Halves, HalvesLeftOut  int64
	// LeftOut names what was not taken over, one reason a line.
	LeftOut []string
}

// WithImport takes over what RocketMQ's config folder says, for a directory of
// ours that RocketMQ had in between: committed offsets, topics, which delayed
// messages it has delivered and how far it has dealt with transactions. It stands
// for "RocketMQ was the last to work here"; a plain Open reads only the log.
// A directory that EmberMQ never had is imported by every Open.
func WithImport() Option { return func(c *config) { c.importing = true } }

// importName is the file in the state folder that notes what an import found: a
// line of JSON and a CRC-32 of it. It is there before anything is changed and
// until the import is complete: one that is interrupted begins again with what it
// found first.
const importName = "import"

// imported is what importName holds. On disk. Do not rename.
type imported struct {
	Version   int
	Existing  bool // the directory was ours before
	Segment   int64
	QueueFile int64
	Slots     int64
	Entries   int64
	Config    javaConfig
	Queues    []javaQueue // as their files say
	Closed    bool        // the files can be believed about what is dead
	Reached   int64       // how far the files have come in the log
	LeftOut   []string
}

const importVersion = 1

// importKey is the row in meta that holds the importRule. On disk. Do not change.
const importKey = "p/import"

// importRule says which delayed and half messages of the foreign part of the log
// wait. It stays for good: a rebuild asks it again. JSON on disk. Do not rename.
type importRule struct {
	Version int
	Made    int64 // ms
	End     int64 // of the foreign part of the log
	// Levels is delayOffset.json: element 0 is level 1.
	Levels []int64
	// Checked says that there was a timercheck.
	Checked               bool
	LastRead, QueueOffset int64
	// HalfOffset is the offset in the half topic below which all is decided.
	HalfOffset int64
}

// waits is the rule about delayed messages, nil when all wait.
func (r *importRule) waits(table schedule.Levels) func(*message.Record) bool {
	if r == nil {
		return nil
	}
	return (&schedule.Import{End: r.End, Levels: r.Levels, Checked: r.Checked, LastRead: r.LastRead,
		QueueOffset: r.QueueOffset, Now: r.Made, Table: table}).Waits
}

// halves is the rule about half messages, nil when all wait.
func (r *importRule) halves() func(*message.Record) bool {
	if r == nil {
		return nil
	}
	return func(rec *message.Record) bool { return rec.Position() >= r.End || rec.Offset() >= r.HalfOffset }
}

// readRule takes the rule of an import that is complete, or makes that of the one
// under way.
func (s *Store) readRule() error {
	if s.imported != nil {
		r := s.imported.Config.Rule
		r.Version, r.Made, r.End = importVersion, s.cfg.env.Clock.Now().UnixMilli(), s.log.Visible()
		s.rule = &r
		return nil
	}
	b, ok, err := s.db.Get([]byte(importKey))
	if err != nil || !ok {
		return mapMeta(err)
	}
	r := new(importRule)
	if err := json.Unmarshal(b, r); err != nil || r.Version < 1 {
		return fmt.Errorf("store: meta key %s: %w", importKey, ErrCorrupt)
	}
	if r.Version > importVersion {
		return fmt.Errorf("store: meta key %s has version %d: %w", importKey, r.Version, ErrUnknownFormat)
	}
	s.rule = r
	return nil
}

func (s *Store) saveRule() error {
	v, err := json.Marshal(s.rule)
	if err != nil {
		return fmt.Errorf("store: save the rule of an import: %w", err)
	}
	var b kv.Batch
	b.Set([]byte(importKey), v)
	if err := s.db.Apply(s.ctx, &b, true); err != nil {
		return fmt.Errorf("store: save the rule of an import: %w", mapMeta(err))
	}
	return nil
}

func readImported(state fs.FS) (*imported, error) {
	b, err := fs.Read(state, importName)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("store: read %s: %w", state.Path(importName), err)
	}
	line, sum, _ := bytes.Cut(b, []byte("\n"))
	m := new(imported)
	if string(sum) != fmt.Sprintf("crc %08x\n", crc32.ChecksumIEEE(line)) || json.Unmarshal(line, m) != nil || m.Version < 1 {
		return nil, &CorruptError{Path: state.Path(importName), Reason: "checksum or contents"}
	}
	if m.Version > importVersion {
		return nil, fmt.Errorf("store: %s has version %d: %w", state.Path(importName), m.Version, ErrUnknownFormat)
	}
	return m, nil
}

func (s *Store) writeImported() error {
	line, err := json.Marshal(s.imported)
	if err == nil {
		err = fs.WriteFile(s.state, importName, fmt.Appendf(line, "\ncrc %08x\n", crc32.ChecksumIEEE(line)))
	}
	if err != nil {
		return fmt.Errorf("store: write %s: %w", s.state.Path(importName), err)
	}
	return nil
}

// foreignDirectory reports whether a directory without FORMAT is another
// program's: a log with something in it, and no state of ours. A second look
// after an import that was interrupted finds its notes.
func (s *Store) foreignDirectory() (bool, error) {
	m, err := readImported(s.state)
	if err != nil || m != nil {
		s.imported = m
		return m != nil, err
	}
	if _, err := s.state.Stat(syncedName); !errors.Is(err, iofs.ErrNotExist) {
		return false, wrapStat(s.state, syncedName, err)
	}
	names, err := s.segmentNames()
	return len(names) > 0, err
}

func wrapStat(f fs.FS, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store: look for %s: %w", f.Path(name), err)
}

// segmentNames are the files in the log's folder that could be segments.
func (s *Store) segmentNames() (names []fs.Entry, err error) {
	es, err := s.logFS.List(".")
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return nil, fmt.Errorf("store: list %s: %w", s.logFS.Path("."), err)
	}
	for _, e := range es {
		if _, err := strconv.ParseInt(e.Name, 10, 64); err == nil && len(e.Name) == 20 && !e.Dir && e.Size > 0 {
			names = append(names, e)
		}
	}
	return names, nil
}

// beginImport finds out what the directory holds, or clears what an earlier
// attempt has left. Nothing of RocketMQ's is touched yet.
func (s *Store) beginImport() error {
	if s.imported == nil {
		m, err := s.survey()
		if err != nil {
			return err
		}
		s.imported = m
	} else if err := s.clearAttempt(); err != nil {
		return err
	}
	m := s.imported
	s.format = newFormat(s.cfg)
	s.format.segmentSize, s.format.queueFileSize = m.Segment, m.QueueFile
	s.format.indexSlots, s.format.indexEntries = m.Slots, m.Entries
	s.recovery.New = true
	return s.format.agree(s.cfg)
}

// importAgain takes note of an import of a directory that is a store already: one
// that was interrupted, or one that WithImport asks for.
func (s *Store) importAgain() (err error) {
	if s.cfg.readOnly {
		return nil
	}
	if s.imported, err = readImported(s.state); err != nil || !s.cfg.importing || s.imported != nil {
		return err
	}
	m := &imported{Version: importVersion, Existing: true}
	if m.Config, m.LeftOut, err = readJavaConfig(s.root); err != nil {
		return err
	}
	m.Config.Rule.Checked = true // without a timercheck RocketMQ has delivered no timer
	s.imported = m
	return nil
}

// importChanges says that an import changes what a view is built by.
func (s *Store) importChanges(v view) bool {
	return s.imported != nil && (v == view(s.timers) || v == view(s.halves))
}

// clearAttempt removes what an interrupted import has made in the state folder.
func (s *Store) clearAttempt() error {
	es, err := s.state.List(".")
	for _, e := range es {
		if err == nil && e.Name != importName && e.Name != path.Base(dirMeta) && e.Name != "aside" {
			err = fs.RemoveAll(s.state, e.Name)
		}
	}
	if err == nil {
		es, err = s.metaFS.List(".")
		if errors.Is(err, iofs.ErrNotExist) {
			es, err = nil, nil
		}
		for _, e := range es {
			if err == nil {
				err = fs.RemoveAll(s.metaFS, e.Name)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("store: begin the import again: %w", err)
	}
	return nil
}

// survey reads everything about the directory that is not in the log.
func (s *Store) survey() (*imported, error) {
	m := &imported{Version: importVersion}
	if err := s.refuseUnknown(); err != nil {
		return nil, err
	}
	names, err := s.segmentNames()
	if err != nil {
		return nil, err
	}
	start := int64(0)
	if len(names) > 0 {
		m.Segment = names[0].Size
		start, _ = strconv.ParseInt(names[0].Name, 10, 64)
	}
	if m.Config, m.LeftOut, err = readJavaConfig(s.root); err != nil {
		return nil, err
	}
	if m.Config.batchTopic != "" {
		return nil, fmt.Errorf("store: topic %s has a batch consume queue (queue.type=BatchCQ): %w", m.Config.batchTopic, ErrUnsupported)
	}
	if err := s.surveyQueues(m, start); err != nil {
		return nil, err
	}
	return m, s.surveyIndex(m)
}

// refuseUnknown looks for what RocketMQ can have and we cannot read.
func (s *Store) refuseUnknown() error {
	const batch = "batchconsumequeue"
	es, err := s.root.List(batch)
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("store: list %s: %w", s.root.Path(batch), err)
	}
	for _, e := range es {
		if e.Dir {
			return fmt.Errorf("store: topic %s has a batch consume queue (%s): %w", e.Name, s.root.Path(batch), ErrUnsupported)
		}
	}
	_, err = s.queueFS.Stat("CURRENT")
	if err == nil {
		return s.refuseRocksDB()
	}
	if !errors.Is(err, iofs.ErrNotExist) {
		return wrapStat(s.queueFS, "CURRENT", err)
	}
	return nil
}

// refuseRocksDB names the topic of the oldest record: the database would have to
// be read for the others.
func (s *Store) refuseRocksDB() error {
	topic, err := s.oldestTopic()
	if err != nil {
		topic = "?" // what the log is like is no matter here
	}
	return fmt.Errorf("store: the queues of topic %s and of all others in %s are a RocksDB database: %w", topic, s.queueFS.Path("."), ErrUnsupported)
}

// oldestTopic reads the log's first record.
func (s *Store) oldestTopic() (topic string, err error) {
	names, err := s.segmentNames()
	if err != nil || len(names) == 0 {
		return "", errors.Join(err, io.EOF)
	}
	f, err := s.logFS.Open(names[0].Name, fs.ReadOnly)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	head := make([]byte, message.FrameSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return "", err
	}
	size, kind := message.Frame(head)
	if kind != message.FrameMessage || int64(size) > names[0].Size {
		return "", io.EOF
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		return "", err
	}
	r, err := message.ParseRecord(b)
	return r.Topic(), err
}
