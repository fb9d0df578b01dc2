package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// row is one setting of the table with its type forgotten.
type row struct {
	name   string   // variable, or the JSON key if it has no variable
	env    bool     // name may be used in the environment and the file
	keys   []string // JSON keys, the first one is the name ECS documents
	form   string
	secret bool
	reason string // why Berth has no use for it; empty for all that is honoured
	fatal  bool   // a value that cannot be read ends the agent

	// set puts a value into c. said is false for a value that says nothing; note is a remark about a value that was bent.
	set  func(c *Config, in input) (said bool, note string, err error)
	show func(c *Config) string
}

// input is one value of one source: text or, if json is set, JSON.
type input struct {
	text string
	json json.RawMessage
}

func (in input) String() string {
	if in.json != nil {
		return string(in.json)
	}
	return in.text
}

// bound changes or refuses a value that was read. note explains a change; ErrInvalid in err refuses for good, any other error makes
// the value count as not set.
type bound[T any] func(v T, fromJSON bool) (out T, note string, err error)

// field ties a variable to a place in Config.
type field[T any] struct {
	env    string
	key    string   // JSON key
	also   []string // further JSON keys, deprecated names
	at     func(*Config) *T
	kind   kind[T]
	bound  bound[T]
	secret bool
	fatal  bool
}

func (f field[T]) row() row {
	r := row{name: f.env, env: f.env != "", form: f.kind.form, secret: f.secret, fatal: f.fatal}
	if f.key != "" {
		r.keys = append([]string{f.key}, f.also...)
	}
	if r.name == "" {
		r.name = f.key
	}
	r.set = func(c *Config, in input) (bool, string, error) {
		v, err := f.read(in)
		if err != nil {
			return false, "", err
		}
		if f.kind.zero(v) {
			return false, "", nil
		}
		var note string
		if f.bound != nil {
			if v, note, err = f.bound(v, in.json != nil); err != nil {
				return false, "", err
			}
		}
		*f.at(c) = v
		return true, note, nil
	}
	r.show = func(c *Config) string { return f.kind.show(*f.at(c)) }
	return r
}

func (f field[T]) read(in input) (T, error) {
	if in.json != nil {
		return f.kind.fromJSON(in.json)
	}
	return f.kind.parse(in.text)
}

// unused is the row of a variable that Berth knows and has no use for.
func unused(reason, name string, keys ...string) row {
	return row{
		name: name, env: true, keys: keys, form: "text", reason: reason,
		set: func(_ *Config, in input) (bool, string, error) {
			return in.String() != "" && in.String() != "null", "", nil
		},
		show: func(*Config) string { return "" },
	}
}

// unusedKey is the row of a JSON key without a variable that Berth has no use for.
func unusedKey(reason, key string) row {
	r := unused(reason, key, key)
	r.env = false
	return r
}

// atLeast raises a value to the minimum. If strict, a smaller one in a JSON source is refused instead, as the ECS agent does.
func atLeast(minimum time.Duration, strict bool) bound[time.Duration] {
	return func(v time.Duration, fromJSON bool) (time.Duration, string, error) {
		switch {
		case v >= minimum:
			return v, "", nil
		case strict && fromJSON:
			return 0, "", fmt.Errorf("%w: less than %s", ErrInvalid, minimum)
		default:
			return minimum, "raised to the minimum " + minimum.String(), nil
		}
	}
}

// between bends a duration into [low, high].
func between(low, high time.Duration) bound[time.Duration] {
	return func(v time.Duration, _ bool) (time.Duration, string, error) {
		switch {
		case v < low:
			return low, "raised to the minimum " + low.String(), nil
		case v > high:
			return high, "lowered to the maximum " + high.String(), nil
		default:
			return v, "", nil
		}
	}
}

// within makes a value outside [low, high] count as not set.
func within[T int | time.Duration](low, high T) bound[T] {
	return func(v T, _ bool) (T, string, error) {
		if v < low || v > high {
			return v, "", fmt.Errorf("not between %v and %v", low, high)
		}
		return v, "", nil
	}
}

// notBelow makes a value under low count as not set.
func notBelow[T int | time.Duration](low T) bound[T] {
	return func(v T, _ bool) (T, string, error) {
		if v < low {
			return v, "", fmt.Errorf("less than %v", low)
		}
		return v, "", nil
	}
}

// ErrInvalid marks settings that Berth will not start with. Trying again cannot help; somebody has to edit a file.
var ErrInvalid = errors.New("invalid setting")
