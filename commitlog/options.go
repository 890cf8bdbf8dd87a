package commitlog

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/message"
)

const (
	// maxGroupBytes bounds a record and a group, whatever W and segment allow.
	maxGroupBytes = 16 << 20
	// maxGroupRecords is what four hex digits of EMBER_GROUP hold.
	maxGroupRecords = 65535
	// maxBatch is how much one write gathers. A larger group goes alone.
	maxBatch = 4 << 20
	// maxQueued is how much asynchronous appends may pile up.
	maxQueued = 16 << 20
	// syncEvery is the longest time that bytes nobody waits for stay unsynced.
	syncEvery = 500 * time.Millisecond

	defaultReserve = 32 << 20
	minSegment     = 1 << 10

	// maxLost is how many segments in a row a read-only open takes for lost.
	maxLost = 1 << 10
)

// Options say how a log is opened. SegmentSize and MaxUnsynced are required.
type Options struct {
	// SegmentSize is the length of every file, at least 1 KiB. A directory made
	// with another one is refused.
	SegmentSize int64
	// MaxUnsynced is W: how many bytes may be with the kernel only. It may change
	// between opens; recovery uses the one that was in force before.
	MaxUnsynced int64
	// OnDisk makes visible what is synced; otherwise what is appended.
	OnDisk bool
	// Clock gives the store time; nil is the real one.
	Clock clock.Clock
	// Manual starts no goroutine: what would run in the background runs in Step.
	// A manual log is for one goroutine.
	Manual bool
	// ReadOnly opens without writing a byte. Damage does not fail the open then:
	// reads give the error inside it and Resume finds what lies behind.
	ReadOnly bool
	// LiveWriter, together with ReadOnly, says that another process is appending:
	// the log ends at its saved watermark.
	LiveWriter bool
	// AcceptLog takes the log as it is found when it does not fit its own
	// watermark: it is shorter, or another record lies there.
	AcceptLog bool

	// Owner is this opener's random number, which the store also keeps in abort.
	// Found is the number that abort held before, zero if there was none. When an
	// unclean log's watermark names another owner than Found, another program
	// wrote since.
	Owner, Found uint64
	// Foreign are the known ranges that another program wrote, in order. In them
	// a record has only its body's checksum.
	Foreign []Range
	// Import says that there is no watermark because another program made the
	// log: all of it is one foreign range.
	Import bool

	// Verify is a mark from which on everything is read at Open, so that damage
	// in front of the watermark is found before anything is changed.
	Verify message.Mark
	// Begin is called once, when the log has been found sound and before Open
	// changes the first byte. Its error ends the open. May be nil.
	Begin func() error

	// DiskReserve is how much room only groups with Reserve may use. Zero is the
	// smaller of 32 MiB and an eighth of the file system; negative is none.
	DiskReserve int64

	// NoYield makes a leader take what has gathered without letting others join
	// first: what yielding costs and brings is measured against it.
	NoYield bool

	// Apply is given all entries in log order, each once, when they become
	// visible. It works in memory only. The slice and the entries are lent for
	// the call. May be nil.
	Apply func(es []*Entry)
	// Advanced is called after Apply with the new visible position. May be nil.
	Advanced func(visible int64)
	// Release is given each group that neither its caller nor the log holds any
	// longer. May be nil.
	Release func(g *Group)
	// Logger gets what recovery did and why the log was poisoned; nil is silent.
	Logger *slog.Logger
}

// Range is a part of the log, From inclusive and To exclusive.
type Range struct{ From, To int64 }

func (o *Options) check() error {
	var errs []error
	if o.SegmentSize < minSegment {
		errs = append(errs, fmt.Errorf("segment size %d is below %d", o.SegmentSize, minSegment))
	}
	if o.MaxUnsynced < minSegment {
		errs = append(errs, fmt.Errorf("unsynced limit %d is below %d", o.MaxUnsynced, minSegment))
	}
	if o.LiveWriter && !o.ReadOnly {
		errs = append(errs, errors.New("a log with a live writer can only be opened read-only"))
	}
	at := int64(-1)
	for _, r := range o.Foreign {
		if r.From < at || r.To <= r.From {
			errs = append(errs, errors.New("foreign ranges overlap or are out of order"))
			break
		}
		at = r.To
	}
	if len(errs) > 0 {
		return fmt.Errorf("commitlog: options: %w", errors.Join(errs...))
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// groupLimit is the size of the largest group.
func (o *Options) groupLimit() int64 {
	return min(maxGroupBytes, o.MaxUnsynced, o.SegmentSize-message.FrameSize)
}
