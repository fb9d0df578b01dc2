package ecs

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Timestamp is a moment as AWS JSON 1.1 writes it: a number of seconds since
// the epoch with a fraction, here to the millisecond. The zero value is unset;
// members of this type are tagged omitzero.
type Timestamp struct{ time.Time }

// maxEpoch bounds what is read, so that a damaged number cannot become a year
// that no other part can print: the end of the year 9999 in seconds.
const maxEpoch = 253402300799

// At gives the wire form of a moment, to the millisecond in UTC.
func At(t time.Time) Timestamp {
	if t.IsZero() {
		return Timestamp{}
	}
	return Timestamp{t.UTC().Truncate(time.Millisecond)}
}

// MarshalJSON writes seconds with up to three decimals, and null when unset.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	ms := t.UnixMilli()
	sign := ""
	if ms < 0 {
		sign, ms = "-", -ms
	}
	out := fmt.Sprintf("%s%d.%03d", sign, ms/1000, ms%1000)
	return []byte(strings.TrimSuffix(strings.TrimRight(out, "0"), ".")), nil
}

// UnmarshalJSON reads a number of seconds, null, or an RFC 3339 string, which
// some senders use.
func (t *Timestamp) UnmarshalJSON(data []byte) error {
	text := string(data)
	if text == "null" {
		*t = Timestamp{}
		return nil
	}
	if unquoted, err := strconv.Unquote(text); err == nil {
		moment, err := time.Parse(time.RFC3339Nano, unquoted)
		if err != nil {
			return fmt.Errorf("cannot read timestamp: %w", err)
		}
		*t = At(moment)
		return nil
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return fmt.Errorf("cannot read timestamp: %w", err)
	}
	if math.IsNaN(seconds) || math.Abs(seconds) > maxEpoch {
		return fmt.Errorf("cannot read timestamp: %s is out of range", text)
	}
	*t = Timestamp{time.UnixMilli(int64(math.Round(seconds * 1000))).UTC()}
	return nil
}
