package tcs

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Timestamp is a moment; on the wire a number of seconds since the epoch with
// at most three decimals.
type Timestamp struct{ time.Time }

// At makes a Timestamp.
func At(t time.Time) Timestamp { return Timestamp{t} }

// MarshalJSON writes seconds, cut to the millisecond.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	ms := t.UnixMilli()
	b := make([]byte, 0, 16)
	if ms < 0 {
		b = append(b, '-')
		ms = -ms
	}
	b = strconv.AppendInt(b, ms/1000, 10)
	if frac := ms % 1000; frac != 0 {
		b = append(b, fmt.Sprintf(".%03d", frac)...)
		for b[len(b)-1] == '0' {
			b = b[:len(b)-1]
		}
	}
	return b, nil
}

// UnmarshalJSON reads seconds, to the millisecond.
func (t *Timestamp) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	s, err := strconv.ParseFloat(string(data), 64)
	if err != nil || math.Abs(s) > 1e12 {
		return fmt.Errorf("%s is not a number of seconds", data)
	}
	t.Time = time.UnixMilli(int64(math.Round(s * 1000))).UTC()
	return nil
}
