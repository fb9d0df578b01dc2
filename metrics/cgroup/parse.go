package cgroup

import (
	"bytes"
	"iter"
	"math"
	"time"

	"github.com/berthd/berth/metrics"
)

// nextLine splits off the first line.
func nextLine(b []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(b, []byte{'\n'})
	return line, rest
}

// lines are those of a file.
func lines(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			var line []byte
			if line, b = nextLine(b); !yield(line) {
				return
			}
		}
	}
}

// nextWord splits off the first word of a line.
func nextWord(b []byte) (word, rest []byte) {
	b = bytes.TrimLeft(b, " \t")
	if i := bytes.IndexAny(b, " \t"); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// words are those of a line.
func words(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			var word []byte
			if word, b = nextWord(b); !yield(word) {
				return
			}
		}
	}
}

// number reads a decimal number. The word max is no limit; anything else is zero and false.
func number(b []byte) (uint64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	if string(b) == "max" {
		return metrics.NoLimit, true
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		d := uint64(c - '0')
		if n > (math.MaxUint64-d)/10 {
			return math.MaxUint64, true
		}
		n = n*10 + d
	}
	return n, true
}

// single is the number that a one-value file holds, and zero if it holds none.
func single(b []byte) uint64 {
	line, _ := nextLine(b)
	word, _ := nextWord(line)
	n, _ := number(word)
	return n
}

// keyed calls set for each "key value" line.
func keyed(b []byte, set func(key []byte, value uint64)) {
	for line := range lines(b) {
		key, rest := nextWord(line)
		word, _ := nextWord(rest)
		if n, ok := number(word); ok {
			set(key, n)
		}
	}
}

// device splits "major:minor".
func device(b []byte) (major, minor uint64, ok bool) {
	a, z, found := bytes.Cut(b, []byte{':'})
	if !found {
		return 0, 0, false
	}
	major, okMajor := number(a)
	minor, okMinor := number(z)
	return major, minor, okMajor && okMinor
}

// stall reads a pressure file, the two lines "some" and "full".
func stall(b []byte) metrics.Stall {
	var s metrics.Stall
	for line := range lines(b) {
		kind, rest := nextWord(line)
		avg10, total := &s.SomeAvg10, &s.Some
		if string(kind) == "full" {
			avg10, total = &s.FullAvg10, &s.Full
		}
		for word := range words(rest) {
			key, value, _ := bytes.Cut(word, []byte{'='})
			switch string(key) {
			case "avg10":
				*avg10 = fixed(value)
			case "total":
				if n, ok := number(value); ok && n <= math.MaxInt64/uint64(time.Microsecond) {
					*total = time.Duration(n) * time.Microsecond
				}
			}
		}
	}
	return s
}

// fixed reads a number with an optional fraction, such as 12.34.
func fixed(b []byte) float64 {
	whole, fraction, _ := bytes.Cut(b, []byte{'.'})
	n, _ := number(whole)
	value, scale := float64(n), 1.0
	for _, c := range fraction {
		if c < '0' || c > '9' {
			break
		}
		scale /= 10
		value += float64(c-'0') * scale
	}
	return value
}
