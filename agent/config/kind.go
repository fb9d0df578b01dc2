package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind says how values of one type are written: as text in the environment and the file, as JSON in the JSON sources, and on the
// screen. decode may be nil: then encoding/json decides.
type kind[T any] struct {
	form   string // the accepted form, for a person
	parse  func(string) (T, error)
	decode func(json.RawMessage) (T, error)
	show   func(T) string
	// zero tells whether a value says nothing, so that the next source is asked.
	zero func(T) bool
}

func (k kind[T]) fromJSON(raw json.RawMessage) (T, error) {
	if k.decode != nil {
		return k.decode(raw)
	}
	var v T
	err := json.Unmarshal(raw, &v)
	return v, err
}

func isZero[T comparable](v T) bool { var zero T; return v == zero }

func texts() kind[string] {
	return kind[string]{
		form: "text", parse: func(s string) (string, error) { return strings.TrimSpace(s), nil },
		show: func(s string) string { return s }, zero: isZero[string],
	}
}

func secrets() kind[Secret] {
	return kind[Secret]{
		form:  "text",
		parse: func(s string) (Secret, error) { return Secret(strings.TrimSpace(s)), nil },
		decode: func(raw json.RawMessage) (Secret, error) {
			// EngineAuthData is a JSON object in the JSON sources and text elsewhere.
			if raw = bytes.TrimSpace(raw); len(raw) > 0 && raw[0] == '{' {
				return Secret(raw), nil
			}
			var s string
			if err := json.Unmarshal(raw, &s); err != nil {
				return "", errors.New("not text")
			}
			return Secret(s), nil
		},
		show: Secret.String, zero: isZero[Secret],
	}
}

func booleans() kind[bool] {
	return kind[bool]{
		form:  "true or false",
		parse: func(s string) (bool, error) { return strconv.ParseBool(strings.TrimSpace(s)) },
		show:  strconv.FormatBool,
		// An explicit false is not nothing.
		zero: func(bool) bool { return false },
	}
}

func durations() kind[time.Duration] {
	return kind[time.Duration]{
		form:  "a duration such as 30s, 10m or 1h30m",
		parse: func(s string) (time.Duration, error) { return time.ParseDuration(strings.TrimSpace(s)) },
		decode: func(raw json.RawMessage) (time.Duration, error) {
			// The ECS agent writes nanoseconds; a person writes "30s".
			var n int64
			if err := json.Unmarshal(raw, &n); err == nil {
				return time.Duration(n), nil
			}
			var s string
			if err := json.Unmarshal(raw, &s); err != nil {
				return 0, errors.New("neither nanoseconds nor a duration")
			}
			return time.ParseDuration(s)
		},
		show: time.Duration.String, zero: isZero[time.Duration],
	}
}

func integers() kind[int] {
	return kind[int]{
		form:  "a whole number",
		parse: func(s string) (int, error) { return strconv.Atoi(strings.TrimSpace(s)) },
		show:  strconv.Itoa, zero: isZero[int],
	}
}

func uint16s() kind[uint16] {
	return kind[uint16]{
		form: "a whole number from 0 to 65535",
		parse: func(s string) (uint16, error) {
			n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 16)
			return uint16(n), err
		},
		show: func(n uint16) string { return strconv.Itoa(int(n)) }, zero: isZero[uint16],
	}
}

func jsonText[T any](v T) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

func lists[E any](form string) kind[[]E] {
	decode := func(raw json.RawMessage) ([]E, error) {
		var v []E
		err := json.Unmarshal(raw, &v)
		return v, err
	}
	return kind[[]E]{
		form: form, decode: decode,
		parse: func(s string) ([]E, error) {
			if strings.TrimSpace(s) == "" {
				return nil, nil
			}
			return decode(json.RawMessage(s))
		},
		show: func(v []E) string {
			if len(v) == 0 {
				return "[]"
			}
			return jsonText(v)
		},
		zero: func(v []E) bool { return len(v) == 0 },
	}
}

func maps() kind[map[string]string] {
	decode := func(raw json.RawMessage) (map[string]string, error) {
		var v map[string]string
		err := json.Unmarshal(raw, &v)
		return v, err
	}
	return kind[map[string]string]{
		form: `a JSON object of text, such as {"stack":"blue"}`, decode: decode,
		parse: func(s string) (map[string]string, error) {
			if strings.TrimSpace(s) == "" {
				return nil, nil
			}
			return decode(json.RawMessage(s))
		},
		show: func(v map[string]string) string {
			if len(v) == 0 {
				return "{}"
			}
			return jsonText(v)
		},
		zero: func(v map[string]string) bool { return len(v) == 0 },
	}
}

// commaLists are not trimmed inside, as the ECS agent does not (task-engine.md §8.1).
func commaLists() kind[[]string] {
	k := lists[string]("names separated by commas")
	k.parse = func(s string) ([]string, error) {
		if s == "" {
			return nil, nil
		}
		return strings.Split(s, ","), nil
	}
	k.show = func(v []string) string { return strings.Join(v, ",") }
	return k
}

// words is an enumeration. In JSON the ECS agent writes some of them as their position: numbered says so.
func words[T ~string](numbered bool, all ...T) kind[T] {
	names := make([]string, len(all))
	for i, w := range all {
		names[i] = string(w)
	}
	form := "one of " + strings.Join(names, ", ")
	parse := func(s string) (T, error) {
		w := T(strings.ToLower(strings.TrimSpace(s)))
		if w == "" || slices.Contains(all, w) {
			return w, nil
		}
		return "", errors.New("unknown word")
	}
	return kind[T]{
		form: form, parse: parse,
		decode: func(raw json.RawMessage) (T, error) {
			var n int
			if err := json.Unmarshal(raw, &n); err == nil && numbered {
				if n < 0 || n >= len(all) {
					return "", errors.New("number out of range")
				}
				return all[n], nil
			}
			var s string
			if err := json.Unmarshal(raw, &s); err != nil {
				return "", errors.New("not a word")
			}
			return parse(s)
		},
		show: func(w T) string { return string(w) }, zero: isZero[T],
	}
}

func portRanges() kind[PortRange] {
	return kind[PortRange]{
		form: "first-last, such as 32768-60999",
		parse: func(s string) (PortRange, error) {
			if strings.TrimSpace(s) == "" {
				return PortRange{}, nil
			}
			a, b, ok := strings.Cut(strings.TrimSpace(s), "-")
			first, errA := strconv.ParseUint(a, 10, 16)
			last, errB := strconv.ParseUint(b, 10, 16)
			if !ok || errA != nil || errB != nil || first == 0 || last < first {
				return PortRange{}, errors.New("not a range of ports")
			}
			return PortRange{First: uint16(first), Last: uint16(last)}, nil
		},
		show: PortRange.String, zero: isZero[PortRange],
	}
}
