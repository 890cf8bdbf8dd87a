package store

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/schedule"
)

// Option changes one setting of Open. The defaults are the safe ones.
type Option func(*config)

// Defaults and ranges of the sizes that an option can change.
const (
	DefaultSegmentSize   = 64 << 20
	DefaultQueueFileSize = 65_520
	DefaultIndexSlots    = 65_536
	DefaultIndexEntries  = 262_144
	DefaultMaxBody       = 4 << 20
	DefaultTopicQueues   = 4
	DefaultRetention     = 72 * time.Hour
	DefaultTailMemory    = 64 << 20
	DefaultOpenFiles     = 512
	maxRecord            = 16 << 20
)

// Folders places parts of a store on other disks. An empty field means the
// usual place below the store's directory. The folders' parents must exist.
type Folders struct {
	CommitLog, ConsumeQueue, Index, Meta string
}

// Watermarks are shares of the log's file system, in percent used. Each lies
// in 1..100 and they do not fall: Clean ≤ Force ≤ Full.
type Watermarks struct {
	Clean int // expired segments go within 10 seconds; below they may stay a minute more
	Force int // young segments that no live group needs go too
	Full  int // user puts get ErrDiskFull; nothing more is deleted
}

// config is what the options add up to. Zero sizes mean "as the directory
// says, or the default when it is new".
type config struct {
	env           env.Env
	durability    message.Durability
	segmentSize   int64
	queueFileSize int64
	indexSlots    int64
	indexEntries  int64
	host          netip.AddrPort
	maxUnsynced   int64
	maxBody       int
	topicQueues   int
	noAutoCreate  bool
	importing     bool
	noAutoGroup   bool
	retention     time.Duration
	retainBytes   int64
	forceExpiry   bool
	watermarks    Watermarks
	groupExpiry   time.Duration
	folders       Folders
	logger        *slog.Logger
	acceptLog     bool
	tailMemory    int64
	openFiles     int
	uniqueID      bool
	uncheckedRead bool
	noIndex       bool
	levels        string
	timerRate     int
	halves        Transactions
	dedupeWindow  time.Duration
	dedupeCount   int
	noIDIndex     bool
	durableSettle bool
	deadRetention time.Duration
	checkpoint    time.Duration
	checkpointLog int64
	readOnly      bool
	reserve       int64 // see commitlog.Options.DiskReserve; tests change it
	errs          []error
}

func newConfig(opts []Option) (*config, error) {
	c := &config{
		env:           env.Real(),
		durability:    message.OnDisk,
		maxBody:       DefaultMaxBody,
		topicQueues:   DefaultTopicQueues,
		retention:     DefaultRetention,
		watermarks:    Watermarks{Clean: 75, Force: 85, Full: 90},
		groupExpiry:   30 * 24 * time.Hour,
		deadRetention: 30 * 24 * time.Hour,
		logger:        slog.New(slog.DiscardHandler),
		tailMemory:    DefaultTailMemory,
		openFiles:     DefaultOpenFiles,
		checkpoint:    10 * time.Second,
		checkpointLog: 64 << 20,
	}
	for _, o := range opts {
		if o != nil {
			o(c)
		}
	}
	if c.maxUnsynced == 0 {
		c.maxUnsynced = 16 << 20
		if c.durability == message.InCache {
			c.maxUnsynced = 64 << 20
		}
	}
	return c, errors.Join(c.errs...)
}

func (c *config) reject(option, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("store: %s: %s", option, fmt.Sprintf(format, args...)))
}

func (c *config) size(option string, v, low, high int64, into *int64) {
	if v < low || v > high {
		c.reject(option, "%d is not in %d..%d", v, low, high)
		return
	}
	*into = v
}

// WithDurability sets what a Put promises when its message does not say.
// OnDisk, the default, returns after a sync that many producers share
// (RocketMQ: SYNC_FLUSH). InCache returns when the kernel has the bytes
// (RocketMQ: ASYNC_FLUSH): a kill of the process loses nothing, a power cut
// loses at most WithMaxUnsynced bytes.
func WithDurability(d message.Durability) Option {
	return func(c *config) {
		if d != message.OnDisk && d != message.InCache {
			c.reject("WithDurability", "%v is neither OnDisk nor InCache", d)
			return
		}
		c.durability = d
	}
}

// WithSegmentSize sets the length of a commit log file in bytes, 4 KiB to
// 1 GiB. It is fixed when the directory is made.
func WithSegmentSize(n int64) Option {
	return func(c *config) { c.size("WithSegmentSize", n, 4<<10, 1<<30, &c.segmentSize) }
}

// WithQueueFileSize sets the length of a consume queue file in bytes, a
// multiple of 20. It is fixed when the directory is made.
func WithQueueFileSize(n int64) Option {
	return func(c *config) {
		if n%20 != 0 {
			c.reject("WithQueueFileSize", "%d is no multiple of 20", n)
			return
		}
		c.size("WithQueueFileSize", n, 200, 1<<30, &c.queueFileSize)
	}
}

// WithIndexSizes sets hash slots and entries of an index file. They are fixed
// when the directory is made.
func WithIndexSizes(slots, entries int64) Option {
	return func(c *config) {
		c.size("WithIndexSizes", slots, 16, 1<<28, &c.indexSlots)
		c.size("WithIndexSizes", entries, 16, 1<<28, &c.indexEntries)
	}
}

// RocketMQ's sizes of an index file.
const rocketMQSlots, rocketMQEntries = 5_000_000, 20_000_000

// RocketMQSizes makes a directory with Apache RocketMQ's own file sizes: 1 GiB
// segments, queue files of 300,000 entries, index files of 5,000,000 slots and
// 20,000,000 entries.
func RocketMQSizes() Option {
	return func(c *config) {
		c.segmentSize, c.queueFileSize = 1<<30, 6_000_000
		c.indexSlots, c.indexEntries = rocketMQSlots, rocketMQEntries
	}
}

// WithHost sets the born and store host written into records, 127.0.0.1:10911
// by default. It only matters to RocketMQ's own tools.
func WithHost(a netip.AddrPort) Option {
	return func(c *config) {
		if !a.IsValid() {
			c.reject("WithHost", "not an address")
			return
		}
		c.host = a
	}
}

// WithMaxUnsynced bounds the log bytes that are written but not yet synced,
// and so what a power cut can take: 4 KiB to 1 GiB, by default 16 MiB
// OnDisk and 64 MiB InCache. It also bounds the size of a record.
func WithMaxUnsynced(n int64) Option {
	return func(c *config) { c.size("WithMaxUnsynced", n, 4<<10, 1<<30, &c.maxUnsynced) }
}

// WithMaxBody bounds a message's body in bytes, 4 MiB by default.
func WithMaxBody(n int) Option {
	return func(c *config) {
		if n < 1 || n > maxRecord-(64<<10) {
			c.reject("WithMaxBody", "%d is not in 1..%d", n, maxRecord-(64<<10))
			return
		}
		c.maxBody = n
	}
}

// WithTopicQueues sets how many queues an auto-created topic gets (4 by
// default, 1..65536).
func WithTopicQueues(n int) Option {
	return func(c *config) {
		if n < 1 || n > maxQueues {
			c.reject("WithTopicQueues", "%d is not in 1..%d", n, maxQueues)
			return
		}
		c.topicQueues = n
	}
}

// WithoutTopicCreation makes a put to an unknown topic fail with ErrNotFound
// instead of creating the topic.
func WithoutTopicCreation() Option { return func(c *config) { c.noAutoCreate = true } }

// WithoutGroupCreation makes the first commit of an unknown group fail with
// ErrNotFound instead of creating the group.
func WithoutGroupCreation() Option { return func(c *config) { c.noAutoGroup = true } }

// WithRetention keeps segments for at least d after their last message, 72
// hours by default; zero keeps them for ever. What a live group has not settled stays
// longer, see WithForceExpiry.
func WithRetention(d time.Duration) Option {
	return func(c *config) {
		if d < 0 {
			c.reject("WithRetention", "%v is negative", d)
			return
		}
		c.retention = d
	}
}

// WithRetentionBytes lets the oldest segments go once the log is longer than
// n bytes; zero, the default, means no such limit.
func WithRetentionBytes(n int64) Option {
	return func(c *config) { c.size("WithRetentionBytes", n, 0, 1<<62, &c.retainBytes) }
}

// WithForceExpiry lets retention delete what live groups have not settled. Such
// a group continues at the first message that is left.
func WithForceExpiry() Option { return func(c *config) { c.forceExpiry = true } }

// WithWatermarks sets the disk watermarks, 75, 85 and 90 percent by default.
func WithWatermarks(w Watermarks) Option {
	return func(c *config) {
		if w.Clean < 1 || w.Clean > w.Force || w.Force > w.Full || w.Full > 100 {
			c.reject("WithWatermarks", "%d, %d, %d are not rising within 1..100", w.Clean, w.Force, w.Full)
			return
		}
		c.watermarks = w
	}
}

// WithGroupExpiry sets after which time unseen a group stops guarding what it
// has not settled, 30 days by default.
func WithGroupExpiry(d time.Duration) Option {
	return func(c *config) {
		if d <= 0 {
			c.reject("WithGroupExpiry", "%v is not positive", d)
			return
		}
		c.groupExpiry = d
	}
}

// WithFolders places commit log, queues, index or meta elsewhere.
func WithFolders(f Folders) Option { return func(c *config) { c.folders = f } }

// WithLogger lets the store report what it does in the background. It is
// silent by default; an error that a call returns is never logged as well.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) {
		if l != nil {
			c.logger = l
		}
	}
}

// WithAcceptLog takes the log as found for the truth when it does not hold
// what the watermark says, after another program has changed it: views are rebuilt,
// offsets clamped, all of it reported in Stats().Recovery.
func WithAcceptLog() Option { return func(c *config) { c.acceptLog = true } }

// WithTailMemory bounds the memory for queue entries that are not in files
// yet, 64 MiB by default, at least 64 KiB.
func WithTailMemory(n int64) Option {
	return func(c *config) { c.size("WithTailMemory", n, 64<<10, 1<<40, &c.tailMemory) }
}

// WithOpenFiles bounds the queue files open at once, 512 by default, at least 8.
func WithOpenFiles(n int) Option {
	return func(c *config) {
		if n < 8 {
			c.reject("WithOpenFiles", "%d is below 8", n)
			return
		}
		c.openFiles = n
	}
}

// WithUniqueID gives every message a unique id (property UNIQ_KEY).
func WithUniqueID() Option { return func(c *config) { c.uniqueID = true } }

// WithoutIndex opens the store without the index: Find returns ErrUnsupported,
// and puts cost a little less. A later Open with it builds what is missing.
func WithoutIndex() Option { return func(c *config) { c.noIndex = true } }

// WithoutIDIndex leaves unique ids out of the index: only keys can be found.
func WithoutIDIndex() Option { return func(c *config) { c.noIDIndex = true } }

// WithDelayLevels replaces the table of delay levels, RocketMQ's 18 by default:
// durations in rising order, separated by spaces, such as "1s 5s 1m". It is kept
// in the directory until another one is given. Messages that wait already keep
// their time.
func WithDelayLevels(table string) Option {
	return func(c *config) {
		if _, err := schedule.ParseLevels(table); err != nil {
			c.reject("WithDelayLevels", "%v", err)
			return
		}
		c.levels = table
	}
}

// WithTimerCatchUp bounds how many overdue messages are delivered a second after
// the store was closed for a while, 50,000 by default. Messages that become due
// now do not wait behind them.
func WithTimerCatchUp(perSecond int) Option {
	return func(c *config) {
		if perSecond < 1 {
			c.reject("WithTimerCatchUp", "%d is not positive", perSecond)
			return
		}
		c.timerRate = perSecond
	}
}

// WithUncheckedReads leaves out the checksum on reads. Recovery and Check still
// verify everything.
func WithUncheckedReads() Option { return func(c *config) { c.uncheckedRead = true } }

// WithDurableSettle makes commits of offsets return only when they are on disk.
// By default they take effect at once and are on disk at most 100 ms later.
func WithDurableSettle() Option { return func(c *config) { c.durableSettle = true } }

// WithCheckpoint sets how long dirty views may wait before they are saved, 10
// seconds by default, and after how many log bytes they are saved earlier, 64
// MiB by default. Both bound the work of the next Open after a kill.
func WithCheckpoint(every time.Duration, logBytes int64) Option {
	return func(c *config) {
		if every <= 0 {
			c.reject("WithCheckpoint", "%v is not positive", every)
			return
		}
		c.checkpoint = every
		c.size("WithCheckpoint", logBytes, 4<<10, 1<<40, &c.checkpointLog)
	}
}

// WithEnvironment replaces files and time. Its argument's type is internal: it
// serves the simulator and the test helpers of this module.
func WithEnvironment(e env.Env) Option { return func(c *config) { c.env = e } }
