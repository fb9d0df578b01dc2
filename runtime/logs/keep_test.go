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

	"github.com/berthd/berth/runtime/await"
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
	ctx, cancel := context.WithCancelCause(t.Context())
	began := time.Now()
	ended := make(chan error, 1) // One answer.
	go func() { ended <- c.Keep(ctx) }()
	await.That(t, "the third try", func() bool { return tries.Load() >= 3 })
	if took := time.Since(began); took < keepPause {
		t.Errorf("tried %d times in %v", tries.Load(), took)
	}
	cancel(errStopped)
	if err := <-ended; !errors.Is(err, errStopped) {
		t.Errorf("Keep: %v", err)
	}
	if n := lines.Len(); n != 1 {
		t.Errorf("logged %d lines", n)
	}
}
