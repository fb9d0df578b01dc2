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
	levels := map[string]zapcore.Level{
		"crit": zapcore.DPanicLevel, "error": zapcore.ErrorLevel, "warn": zapcore.WarnLevel,
		"info": zapcore.InfoLevel, "debug": zapcore.DebugLevel, "none": zapcore.FatalLevel,
	}
	at, ok := levels[level]
	if !ok {
		return nil, usage("cannot log at level %q: write crit, error, warn, info, debug or none", level)
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
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), at)), nil
}

// inJournal says whether stderr is a socket, as it is for a unit of systemd.
func inJournal() bool {
	info, err := os.Stderr.Stat()
	return err == nil && info.Mode()&os.ModeSocket != 0
}
