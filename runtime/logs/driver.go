package logs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// The drivers that the log process has of itself.
const (
	DriverJSONFile = "json-file"
	DriverNone     = "none"
)

// maxLine is where a long line is split, in bytes, as Docker does.
const maxLine = 16 << 10

// Stream says which output of a container a line came from.
type Stream string

// The streams. With a terminal everything is Stdout.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// Entry is a line, or a part of one that is longer than 16 KiB or was never
// ended.
type Entry struct {
	// Time is when it was read from the pipe.
	Time   time.Time
	Stream Stream
	// Line is the text as the container wrote it, with its newline; without one
	// it is a part and the next entry of the stream continues it. The bytes
	// belong to the caller again when Write returns.
	Line []byte
}

// Mark is a driver's own note of a position, kept with what is still to be
// written so that the two change together. The zero Mark means not known.
type Mark struct{ A, B uint64 }

// Driver takes the lines of one container to where they are kept. It is called
// from one goroutine at a time.
//
// A driver that fails is asked again with the same entries, for ever, and what
// comes behind waits: in the pipe, and then in the writer. A driver that may
// take long, or that must not let writers wait, keeps a queue of its own (see
// the option mode=non-blocking, which puts one before any driver).
type Driver interface {
	// Write takes entries from the front and returns how many it took; the rest
	// is offered again. It may take fewer without an error. Entries taken must
	// outlive this process: they are given up when Write returns. Should the
	// process be killed just before that, they are offered again to the next.
	Write(ctx context.Context, entries []Entry) (int, error)
	// Mark is the position after what Write took.
	Mark() Mark
	// Sync returns once everything taken is where it belongs.
	Sync(ctx context.Context) error
	// Close syncs what it can until ctx ends and gives everything back.
	Close(ctx context.Context) error
}

// DriverConfig is what a driver is opened with.
type DriverConfig struct {
	Container Container
	// DataDir is the container's directory for log files; it may not exist yet.
	DataDir string
	// Mark is what Driver.Mark said when entries were last given up. Anything
	// the driver has written beyond it was not, and will be offered again.
	Mark Mark
	// Log is where the driver says what it does not return.
	Log *zap.Logger
}

// Factory makes drivers of one name.
type Factory struct {
	// Options are the options the driver knows, besides mode and
	// max-buffer-size, which every driver has.
	Options []string
	// Check says what is wrong with the options' values; nil checks nothing.
	Check func(Container) error
	// Open opens the driver for a container.
	Open func(context.Context, DriverConfig) (Driver, error)
}

// ErrOptions is matched by errors about a container's log options or driver.
var ErrOptions = errors.New("invalid log configuration")

// builtin is the table of the drivers that need nothing but this package.
func builtin() map[string]Factory {
	return map[string]Factory{
		DriverJSONFile: {Options: jsonFileOptions(), Check: checkJSONFile, Open: openJSONFile},
		DriverNone: {
			// The options of another driver may stay behind when none is chosen.
			Options: nil,
			Open:    func(context.Context, DriverConfig) (Driver, error) { return discard{}, nil },
		},
	}
}

// check says what is wrong with a container's driver and options.
func check(drivers map[string]Factory, c Container) error {
	factory, ok := drivers[c.driver()]
	if !ok {
		return fmt.Errorf("%w: unknown log driver %q; there are %s",
			ErrOptions, c.driver(), strings.Join(slices.Sorted(maps.Keys(drivers)), ", "))
	}
	if c.driver() == DriverNone {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(c.Options)) {
		if name != optMode && name != optMaxBufferSize && !slices.Contains(factory.Options, name) {
			return fmt.Errorf("%w: unknown log option %q for driver %s", ErrOptions, name, c.driver())
		}
	}
	if _, err := parseMode(c.Options); err != nil {
		return err
	}
	if factory.Check == nil {
		return nil
	}
	return factory.Check(c)
}

// Options every driver has.
const (
	optMode          = "mode"
	optMaxBufferSize = "max-buffer-size"
)

// parseMode answers the size of the non-blocking buffer in bytes, or 0 for
// blocking mode.
func parseMode(options map[string]string) (int64, error) {
	size, sized := options[optMaxBufferSize]
	switch mode := options[optMode]; mode {
	case "", "blocking":
		if sized {
			return 0, fmt.Errorf("%w: %s is only for %s=non-blocking", ErrOptions, optMaxBufferSize, optMode)
		}
		return 0, nil
	case "non-blocking":
		if !sized {
			return 1 << 20, nil
		}
		n, err := parseSize(optMaxBufferSize, size)
		if err == nil && n <= 0 {
			err = fmt.Errorf("%w: %s=%q must be positive", ErrOptions, optMaxBufferSize, size)
		}
		return n, err
	default:
		return 0, fmt.Errorf("%w: %s=%q; it is blocking or non-blocking", ErrOptions, optMode, mode)
	}
}

// parseSize reads a size in bytes as Docker does: a number, which may have a
// fraction, and k, m, g or t, which may be followed by b or ib, in either case.
func parseSize(option, text string) (int64, error) {
	s := strings.ToLower(strings.TrimSpace(text))
	s = strings.TrimSuffix(strings.TrimSuffix(s, "b"), "i")
	shift := 0
	if i := strings.IndexAny(s, "kmgt"); i >= 0 && i == len(s)-1 {
		shift = 10 * (1 + strings.IndexByte("kmgt", s[i]))
		s = strings.TrimSpace(s[:i])
	}
	n, err := strconv.ParseFloat(s, 64)
	if n *= float64(int64(1) << shift); err != nil || !(n >= 0 && n < math.MaxInt64) {
		return 0, fmt.Errorf("%w: %s=%q is not a size such as 10m", ErrOptions, option, text)
	}
	return int64(n), nil
}

// discard is the driver none.
type discard struct{}

var _ Driver = discard{}

// Write takes everything.
func (discard) Write(_ context.Context, entries []Entry) (int, error) { return len(entries), nil }

// Mark is never needed.
func (discard) Mark() Mark { return Mark{} }

// Sync has nothing to do.
func (discard) Sync(context.Context) error { return nil }

// Close has nothing to do.
func (discard) Close(context.Context) error { return nil }
