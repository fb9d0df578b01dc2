package logs

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestKeepWithoutAProgram keeps a log process whose program cannot be started,
// as after an upgrade that removed it: neither a busy loop nor a line each time.
func TestKeepWithoutAProgram(t *testing.T) {
	core, lines := observer.New(zap.InfoLevel)
	var tries atomic.Int64
	c := NewClient(ClientConfig{
		Socket: filepath.Join(t.TempDir(), "logs.sock"), Log: zap.New(core),
		Spawn: func() error {
			tries.Add(1)
			return errors.New("no such program")
		},
	})
	ctx, cancel := context.WithTimeoutCause(t.Context(), 1500*time.Millisecond, errStopped)
	defer cancel()
	if err := c.Keep(ctx); !errors.Is(err, errStopped) {
		t.Errorf("Keep: %v", err)
	}
	if n := tries.Load(); n < 2 || n > 3 {
		t.Errorf("tried %d times in a second and a half", n)
	}
	if n := lines.Len(); n != 1 {
		t.Errorf("logged %d lines", n)
	}
}
