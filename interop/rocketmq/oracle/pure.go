package oracle

import "context"

// TagHashes returns RocketMQ's hashes of tags.
func (j *JVM) TagHashes(ctx context.Context, tags []string) ([]int64, error) {
	var r struct{ Values []int64 }
	err := j.Call(ctx, "tagHashes", object{"values": tags}, &r)
	return r.Values, err
}

// IndexHashes returns RocketMQ's hashes of index keys, "topic#key".
func (j *JVM) IndexHashes(ctx context.Context, keys []string) ([]int32, error) {
	var r struct{ Values []int32 }
	err := j.Call(ctx, "indexHashes", object{"values": keys}, &r)
	return r.Values, err
}

// UniqueID is what RocketMQ reads from a UNIQ_KEY. Time is in milliseconds and
// known only to the month.
type UniqueID struct {
	IP   string
	PID  int
	Time int64
}

// UniqueIDs parses unique ids.
func (j *JVM) UniqueIDs(ctx context.Context, ids []string) ([]UniqueID, error) {
	var r struct{ IDs []UniqueID }
	err := j.Call(ctx, "uniqueIDs", object{"values": ids}, &r)
	return r.IDs, err
}

// NewUniqueIDs makes unique ids as RocketMQ's client does.
func (j *JVM) NewUniqueIDs(ctx context.Context, n int) ([]string, error) {
	var r struct{ Values []string }
	err := j.Call(ctx, "newUniqueIDs", object{"count": n}, &r)
	return r.Values, err
}

// OffsetID is what RocketMQ reads from an offset message id.
type OffsetID struct {
	Host     string
	Position int64
}

// OffsetIDs parses offset message ids.
func (j *JVM) OffsetIDs(ctx context.Context, ids []string) ([]OffsetID, error) {
	var r struct{ IDs []OffsetID }
	err := j.Call(ctx, "offsetIDs", object{"values": ids}, &r)
	return r.IDs, err
}

// Decode decodes records as a client does. A nil record is one that RocketMQ
// refuses.
func (j *JVM) Decode(ctx context.Context, records [][]byte) ([]*Record, error) {
	var r struct{ Records []*Record }
	err := j.Call(ctx, "decode", object{"records": records}, &r)
	return r.Records, err
}

// DecodeBatch decodes the body of a client's batch.
func (j *JVM) DecodeBatch(ctx context.Context, b []byte) ([]Record, error) {
	var r struct{ Records []Record }
	err := j.Call(ctx, "decodeBatch", object{"bytes": b}, &r)
	return r.Records, err
}

// SQL evaluates every expression against every message's properties. A row is
// one expression: "parse: " and a reason, or one letter a message: T, F, N (the
// result is no boolean) or E (an exception).
func (j *JVM) SQL(ctx context.Context, expressions []string, messages []map[string]string) ([]string, error) {
	ms := make([]object, len(messages))
	for i, m := range messages {
		ms[i] = object{"properties": m}
	}
	var r struct{ Rows []string }
	err := j.Call(ctx, "sql", object{"expressions": expressions, "messages": ms}, &r)
	return r.Rows, err
}

// Allocation asks one of RocketMQ's strategies what a consumer gets. Strategy is
// average, circle, hash, config, room or nearby.
type Allocation struct {
	Strategy  string          `json:"strategy"`
	Group     string          `json:"group"`
	Consumer  string          `json:"consumer"`
	Consumers []string        `json:"consumers"`
	Queues    []AllocateQueue `json:"queues"`
	Rooms     []string        `json:"rooms,omitempty"`   // room: the rooms to consume from
	Fixed     []int           `json:"fixed,omitempty"`   // config: the consumer's queues
	Virtual   int             `json:"virtual,omitempty"` // hash: virtual nodes a consumer
}

// AllocateQueue is a message queue as RocketMQ's clients name it.
type AllocateQueue struct {
	Topic  string `json:"topic"`
	Broker string `json:"broker"`
	Queue  int    `json:"queue"`
}

// Allocate returns the consumer's queues as indexes into a.Queues.
func (j *JVM) Allocate(ctx context.Context, a Allocation) ([]int, error) {
	var r struct{ Queues []int }
	err := j.Call(ctx, "allocate", a, &r)
	return r.Queues, err
}
