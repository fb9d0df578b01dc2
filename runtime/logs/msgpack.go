package logs

import (
	"encoding/binary"
	"time"
)

// The few forms of MessagePack that the forward protocol of Fluentd is made of.
// Each appends to out, in the shortest form there is.

func packArray(out []byte, n int) []byte {
	if n < 16 {
		return append(out, 0x90|byte(n))
	}
	return binary.BigEndian.AppendUint16(append(out, 0xdc), uint16(n))
}

func packMap(out []byte, n int) []byte {
	if n < 16 {
		return append(out, 0x80|byte(n))
	}
	return binary.BigEndian.AppendUint16(append(out, 0xde), uint16(n))
}

func packString[T string | []byte](out []byte, s T) []byte {
	switch n := len(s); {
	case n < 32:
		out = append(out, 0xa0|byte(n))
	case n < 1<<8:
		out = append(out, 0xd9, byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, 0xda), uint16(n))
	default:
		out = binary.BigEndian.AppendUint32(append(out, 0xdb), uint32(n))
	}
	return append(out, s...)
}

// packSeconds is a time as a whole number.
func packSeconds(out []byte, t time.Time) []byte {
	s := t.Unix()
	if s >= 0 && s <= 1<<32-1 {
		return binary.BigEndian.AppendUint32(append(out, 0xce), uint32(s))
	}
	return binary.BigEndian.AppendUint64(append(out, 0xd3), uint64(s))
}

// packTime is Fluentd's EventTime, an extension of type 0: seconds and
// nanoseconds, 32 bits each.
func packTime(out []byte, t time.Time) []byte {
	out = binary.BigEndian.AppendUint32(append(out, 0xd7, 0), uint32(t.Unix()))
	return binary.BigEndian.AppendUint32(out, uint32(t.Nanosecond()))
}
