package oracle

import (
	"context"
)

// Config is what a store is opened with. The names are RocketMQ's meaning:
// mappedFileSizeCommitLog, mappedFileSizeConsumeQueue, maxHashSlotNum,
// maxIndexNum, maxMessageSize, enabledAppendPropCRC, forceVerifyPropCRC,
// SYNC_FLUSH, enableLmq with enableMultiDispatch, queues in RocksDB
// (storeType=defaultRocksDB), and topics with the attribute queue.type=BatchCQ.
type Config struct {
	Dir         string   `json:"dir"`
	Segment     int64    `json:"segment"`
	QueueFile   int64    `json:"queueFile"`
	Slots       int64    `json:"slots"`
	Entries     int64    `json:"entries"`
	MaxBody     int      `json:"maxBody"`
	AppendCRC   bool     `json:"appendCRC"`
	ForceCRC    bool     `json:"forceCRC"`
	Sync        bool     `json:"sync"`
	LMQ         bool     `json:"lmq"`
	RocksDB     bool     `json:"rocksDB"`
	BatchTopics []string `json:"batchTopics,omitempty"`
}

// Message is a message to put.
type Message struct {
	Topic          string            `json:"topic"`
	Queue          int32             `json:"queue"`
	Body           []byte            `json:"body"`
	Flag           int32             `json:"flag"`
	SysFlag        int32             `json:"sysFlag"`
	BornAt         int64             `json:"bornAt"`
	BornHost       string            `json:"bornHost,omitempty"`
	StoreHost      string            `json:"storeHost,omitempty"`
	ReconsumeTimes int32             `json:"reconsumeTimes"`
	PreparedOffset int64             `json:"preparedOffset"`
	Properties     map[string]string `json:"properties,omitempty"`
}

// Record is what Java decodes a record to. Raw is set only when asked for, and
// ComputedCRC is then the CRC-32 of the body, which is left out; RocketMQ clears
// its highest bit. Inflated is set only by Decode.
type Record struct {
	Topic          string            `json:"topic"`
	Queue          int32             `json:"queue"`
	Offset         int64             `json:"offset"`
	Position       int64             `json:"position"`
	Size           int               `json:"size"`
	Flag           int32             `json:"flag"`
	SysFlag        int32             `json:"sysFlag"`
	BornAt         int64             `json:"bornAt"`
	BornHost       string            `json:"bornHost"`
	StoredAt       int64             `json:"storedAt"`
	StoreHost      string            `json:"storeHost"`
	BodyCRC        uint32            `json:"bodyCRC"`
	ComputedCRC    uint32            `json:"computedCRC"`
	ReconsumeTimes int32             `json:"reconsumeTimes"`
	PreparedOffset int64             `json:"preparedOffset"`
	Body           []byte            `json:"body"`
	Inflated       []byte            `json:"inflated"`
	Properties     map[string]string `json:"properties"`
	MsgID          string            `json:"msgId"`
	Raw            []byte            `json:"raw"`
}

// Receipt is the result of a put: RocketMQ's two statuses and where the message
// went. For a batch Offset is the first one and Count the number of messages.
type Receipt struct {
	Status   string `json:"status"`
	Append   string `json:"append"`
	Position int64  `json:"position"`
	Offset   int64  `json:"offset"`
	Size     int    `json:"size"`
	StoredAt int64  `json:"storedAt"`
	Count    int    `json:"count"`
	MsgID    string `json:"msgId"`
}

// OK reports that the message is stored.
func (r Receipt) OK() bool { return r.Status == "PUT_OK" && r.Append == "PUT_OK" }

// Queue is a queue with its bounds [Start, End).
type Queue struct {
	Topic      string `json:"topic"`
	Queue      int32  `json:"queue"`
	Start, End int64
}

// Store is a directory that a JVM has open.
type Store struct {
	j  *JVM
	id int
	// Loaded is what load() returned. Nothing but Close may follow a false.
	Loaded bool
	// MinPosition and MaxPosition are the bounds of the log after the open.
	MinPosition, MaxPosition int64
}

type object map[string]any

// Open loads a directory and, if load() returns true, starts the store.
func (j *JVM) Open(ctx context.Context, c Config) (*Store, error) {
	if c.MaxBody == 0 {
		c.MaxBody = 128 << 10
	}
	var r struct {
		Store                    int
		Loaded                   bool
		MinPosition, MaxPosition int64
	}
	if err := j.Call(ctx, "open", c, &r); err != nil {
		return nil, err
	}
	return &Store{j, r.Store, r.Loaded, r.MinPosition, r.MaxPosition}, nil
}

func (s *Store) call(ctx context.Context, op string, args object, result any) error {
	if args == nil {
		args = object{}
	}
	args["store"] = s.id
	return s.j.Call(ctx, op, args, result)
}

// Put stores messages one by one and waits until they are dispatched.
func (s *Store) Put(ctx context.Context, ms ...Message) ([]Receipt, error) {
	var r struct{ Receipts []Receipt }
	err := s.call(ctx, "put", object{"messages": ms}, &r)
	return r.Receipts, err
}

// PutBatch stores messages of one queue as a client's batch. shared are the
// properties of the batch itself.
func (s *Store) PutBatch(ctx context.Context, shared map[string]string, ms ...Message) (Receipt, error) {
	var r struct{ Receipts []Receipt }
	if err := s.call(ctx, "putBatch", object{"messages": ms, "properties": shared}, &r); err != nil {
		return Receipt{}, err
	}
	return r.Receipts[0], nil
}

// Read returns all records of a queue from an offset on, and the status of the
// last call to getMessage.
func (s *Store) Read(ctx context.Context, topic string, queue int32, from int64, raw bool) ([]Record, string, error) {
	var r struct {
		Records []Record
		Status  string
	}
	err := s.call(ctx, "read", object{"topic": topic, "queue": queue, "from": from, "raw": raw}, &r)
	return r.Records, r.Status, err
}

// Query returns the records that a key finds between two times.
func (s *Store) Query(ctx context.Context, topic, key string, most int, begin, end int64) ([]Record, error) {
	var r struct{ Records []Record }
	err := s.call(ctx, "query", object{"topic": topic, "key": key, "max": most, "begin": begin, "end": end}, &r)
	return r.Records, err
}

// Look returns the record at a position, if Java finds one there.
func (s *Store) Look(ctx context.Context, position int64) ([]Record, error) {
	var r struct{ Records []Record }
	err := s.call(ctx, "look", object{"position": position}, &r)
	return r.Records, err
}

// Times searches offsets by times, with both bounds.
func (s *Store) Times(ctx context.Context, topic string, queue int32, times []int64) (lower, upper []int64, err error) {
	var r struct{ Lower, Upper []int64 }
	err = s.call(ctx, "times", object{"topic": topic, "queue": queue, "times": times}, &r)
	return r.Lower, r.Upper, err
}

// Queues lists all queues and the bounds of the log.
func (s *Store) Queues(ctx context.Context) (qs []Queue, minPosition, maxPosition int64, err error) {
	var r struct {
		Queues                   []Queue
		MinPosition, MaxPosition int64
	}
	err = s.call(ctx, "queues", nil, &r)
	return r.Queues, r.MinPosition, r.MaxPosition, err
}

// Walk is what Verify saw: how many records pass, where the walk ended, and why
// it ended early, if it did.
type Walk struct {
	Records int64
	End     int64
	Reason  string
}

// Verify walks the log as recovery does, with every check that the store's
// configuration asks for.
func (s *Store) Verify(ctx context.Context) (Walk, error) {
	var w Walk
	err := s.call(ctx, "verify", nil, &w)
	return w, err
}

// Check gives single records to checkMessageAndReturnSize. A size of -1 is a
// refusal.
func (s *Store) Check(ctx context.Context, records [][]byte) ([]int, error) {
	var r struct{ Sizes []int }
	err := s.call(ctx, "check", object{"records": records}, &r)
	return r.Sizes, err
}

// Close shuts the store down, without the 3 seconds that shutdown() waits first.
func (s *Store) Close(ctx context.Context) error { return s.call(ctx, "close", nil, nil) }
