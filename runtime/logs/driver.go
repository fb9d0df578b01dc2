package logs

import (
	"bytes"
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
	// Partial says which part of a line it is; nil for a whole one. Only remote
	// drivers are told, and only those that do not ask for whole lines (see
	// Batch.MaxLine).
	Partial *Partial
}

// Text is the line without its newline.
func (e Entry) Text() []byte { return bytes.TrimSuffix(e.Line, []byte{'\n'}) }

// Partial is the place of a part in its line, in Docker's words.
type Partial struct {
	// ID is the same for all parts of a line, Ordinal counts them from 1, and the
	// Last one ends the line.
	ID      string
	Ordinal int
	Last    bool
}

// Mark is a driver's own note of a position, kept with what is still to be
// written so that the two change together. The zero Mark means not known.
type Mark struct{ A, B uint64 }

// Driver takes the lines of one container to where they are kept. It is called
// from one goroutine at a time.
//
// A driver that fails is asked again with the same entries, for ever, and what
// comes behind waits: for a remote driver in files (see Factory.Remote), for a
// local one in the pipe, and then in the writer.
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
	// the driver has written beyond it was not, and will be offered again. Remote
	// drivers have none.
	Mark Mark
	// Memory is a directory of the container's in a file system that never reaches a
	// disk, for what a driver must not lose with its process and must not write
	// down; "" where there is none.
	Memory string
	// Rejected counts lines that the far end will never take, though Write said
	// that they were taken: the driver need not log them itself. It is never nil.
	Rejected func(lines int, why error)
	// Log is where the driver says what it does not return.
	Log *zap.Logger
}

// Factory makes drivers of one name.
type Factory struct {
	// Options are the options the driver knows, besides mode and
	// max-buffer-size, which every driver has, and those of the local copy, which
	// every remote one has.
	Options []string
	// Check says what is wrong with the options' values, by errors that match
	// ErrOptions; nil checks nothing. What it lets pass can start: that the far
	// end is there is none of its business.
	Check func(Container) error
	// Open opens the driver for a container. A remote driver should leave the
	// connection to the first Write; an error is tried again like one of Write.
	Open func(context.Context, DriverConfig) (Driver, error)
	// Remote drivers hand lines to another process or host. Between the container
	// and the driver is a queue of files (see the package comment), so Write may
	// take its time, and may fail for as long as it likes. Write answers how many
	// entries the far end has; Mark, Sync and most of Close have nothing to do.
	Remote bool
	// Batch says for a container how a remote driver wants its entries; nil is the
	// zero Batch.
	Batch func(Container) Batch
}

// Batch says how a remote driver wants its entries.
type Batch struct {
	// Lines and Bytes bound what Write is offered at once; zero are 256 lines and
	// 256 KiB. One entry is offered however long it is.
	Lines, Bytes int
	// Linger is how long a Write may be put off for more to come; zero is not at
	// all. A container that ends is not waited for.
	Linger time.Duration
	// MaxLine asks for whole lines up to so many bytes: the parts of a long line
	// come as one entry. Zero leaves the parts as they are, each with its Partial.
	MaxLine int
	// Begins, if set, joins the lines of a stream from one that it is true for to
	// the next, newlines and all, up to MaxLine bytes. An entry that may go on is
	// held back until it is Linger old.
	Begins func(line []byte) bool
}

// withDefaults fills in the zero values.
func (b Batch) withDefaults() Batch {
	if b.Lines <= 0 {
		b.Lines = batchLines
	}
	if b.Bytes <= 0 {
		b.Bytes = 4 * batchSize
	}
	if b.Begins != nil && b.MaxLine == 0 {
		b.MaxLine = b.Bytes
	}
	return b
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
		DriverFluentd:  fluentdFactory(nil),
		DriverSyslog:   syslogFactory(),
		DriverJournald: journaldFactory(JournalSocket),
		DriverGELF:     gelfFactory(),
		DriverSplunk:   Splunk(nil),
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
	common := []string{optMode, optMaxBufferSize}
	if factory.Remote {
		common = append(common, cacheOptions()...)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Options)) {
		if !slices.Contains(common, name) && !slices.Contains(factory.Options, name) {
			known := slices.Sorted(slices.Values(slices.Concat(common, factory.Options)))
			return fmt.Errorf("%w: unknown log option %q for driver %s; it has %s",
				ErrOptions, name, c.driver(), strings.Join(known, ", "))
		}
	}
	if factory.Remote {
		if _, err := parseCache(c.Options); err != nil {
			return err
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
			return 10 << 20, nil
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
