// Package message holds the words every seam of EmberMQ speaks: what a user
// sends (Message), what the commit log stores (Record), what a call gives back
// (Receipt, Batch, Pending), what chooses messages (Filter), where a group begins
// (Start), what a consumer says of a record and how far it has come (Verdict,
// Standing), the errors, and the codecs between them. It does no I/O, keeps
// no state and starts no goroutine.
//
// Three nouns:
//
//   - A Message is a user's value: topic, tag, keys, properties, body.
//   - A Draft is a message encoded as a record that has no place yet. Encode
//     does the expensive work outside any lock; Stamp puts in the position, the
//     queue offset, the store time and the checksum once the log has decided
//     them.
//   - A Record is a lazy view of stored bytes. It parses the frame once and
//     everything else when asked; its strings and slices alias the bytes.
//
// The bytes are those of Apache RocketMQ 5.3.3 (docs/format/record.md), with
// three additions inside that format: every record ends in a checksum over the
// whole record, properties are sorted by name, and properties that start with
// EMBER_ carry the store's own facts. An EMBER_ property that has an effect
// begins with the position of the record it stands in, because programs that
// copy records copy properties too: a copied fact names another position and is
// ignored.
//
// Decoders accept any bytes. They never panic and never allocate from a length
// that they have not checked.
//
// Nothing here is durable: durability is what the log promises about a record.
// Values may be read from many goroutines; a Draft, a Record and a Message
// belong to one goroutine while they change. IDs and Pending may be used by
// many at once. Pending has a mutex that is never held across a call out of this
// package; nothing else here locks.
package message
