package message

import "hash/crc32"

// bodySum is the checksum of a body.
type bodySum struct {
	crc uint32
}

func sumBody(body []byte) bodySum { return bodySum{crc: crc32.ChecksumIEEE(body)} }
