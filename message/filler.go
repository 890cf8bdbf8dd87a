package message

// fillerMark tells a filler from everything else; it stands where a transaction's
// half would be named. On disk. Do not change.
const fillerMark int64 = 0x454D42455246494C // "EMBERFIL"

// MinFiller is the size of the smallest filler: a topic of one byte and the
// checksum.
const MinFiller = MinRecordSize + checksumSize

// Filler is a record of exactly size bytes for the log's position, at least
// MinFiller. Repair lays it over damage, so that whoever walks the log gets past.
// It bears the flag of a transaction that was rolled back, which keeps it out of
// every queue, here and in RocketMQ, whatever its topic says: a short one has
// only a part of TopicLost.
func Filler(position int64, size int, storedAt int64) []byte {
	var d Draft
	topic := TopicLost[:min(len(TopicLost), size-MinFiller+1)]
	m := Message{Body: make([]byte, size-MinFiller+1-len(topic))}
	e := Envelope{SysFlag: FlagRollback, PreparedOffset: fillerMark}
	if err := d.Encode(&m, Queue{Topic: topic}, &e); err != nil || d.Size() != size {
		panic("message: a filler does not have the size that was asked for")
	}
	d.Stamp(position, 0, storedAt)
	return d.Bytes()
}

// Filler reports whether the record was laid over damage.
func (r *Record) Filler() bool {
	return r.PreparedOffset() == fillerMark && r.SysFlag()&maskTransaction == FlagRollback
}
