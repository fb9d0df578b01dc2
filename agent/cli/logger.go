package cli

import (
	"io"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newLogger makes the logger of a long-running verb: one line an event on w.
// Levels are those of ECS_LOGLEVEL; format is logfmt (for people) or json. In the
// journal, which has times of its own, lines carry none.
func newLogger(w io.Writer, level, format string) (*zap.Logger, error) {
	log, _, err := newLoggerLive(w, level, format)
	return log, err
}

// newLoggerLive makes a logger, and what changes its level while it is used.
func newLoggerLive(w io.Writer, level, format string) (log *zap.Logger, change func(level string) error, err error) {
	at := zap.NewAtomicLevel()
	change = func(level string) error {
		l, err := parseLevel(level)
		if err == nil {
			at.SetLevel(l)
		}
		return err
	}
	if err := change(level); err != nil {
		return nil, nil, err
	}
	c := zap.NewProductionEncoderConfig()
	c.EncodeTime = zapcore.RFC3339TimeEncoder
	c.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(c)
	if format != "json" {
		c.EncodeLevel = zapcore.CapitalLevelEncoder
		c.ConsoleSeparator = "  "
		if inJournal() {
			c.TimeKey = zapcore.OmitKey
		}
		encoder = zapcore.NewConsoleEncoder(c)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), at)), change, nil
}

// parseLevel reads a level of ECS_LOGLEVEL.
func parseLevel(level string) (zapcore.Level, error) {
	levels := map[string]zapcore.Level{
		"crit": zapcore.DPanicLevel, "error": zapcore.ErrorLevel, "warn": zapcore.WarnLevel,
		"info": zapcore.InfoLevel, "debug": zapcore.DebugLevel, "none": zapcore.FatalLevel,
	}
	at, ok := levels[level]
	if !ok {
		return 0, usage("cannot log at level %q: write crit, error, warn, info, debug or none", level)
	}
	return at, nil
}

// inJournal says whether stderr is a socket, as it is for a unit of systemd.
func inJournal() bool {
	info, err := os.Stderr.Stat()
	return err == nil && info.Mode()&os.ModeSocket != 0
}
