package store

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// errDamaged is why a record is not believed.
var errDamaged = errors.New("checksum does not match")

// checksumSize is the length of the checksum in front of a value.
const checksumSize = 4

// checksum covers the key too, so that a value that strayed to another key is
// not believed there.
func checksum(key, body []byte) uint32 {
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body)
}

// encode puts the checksum before body. The result is a copy.
func encode(key, body []byte) []byte {
	value := make([]byte, 0, checksumSize+len(body))
	value = binary.BigEndian.AppendUint32(value, checksum(key, body))
	return append(value, body...)
}

// decode is the reverse of encode. The result is part of value.
func decode(key, value []byte) ([]byte, error) {
	if len(value) < checksumSize {
		return nil, errDamaged
	}
	body := value[checksumSize:]
	if binary.BigEndian.Uint32(value) != checksum(key, body) {
		return nil, errDamaged
	}
	return body, nil
}
