package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/backoff"
	"github.com/berthd/berth/runtime/container"
)

// maxOutput is how much of a probe's output is kept, in characters
// (spec/task-engine.md §4).
const maxOutput = 1024

// errProbeTimeout is why a probe is killed.
var errProbeTimeout = errors.New("the health check took too long")

// prober runs one container's health check for one run of the container, as
// Docker does: the first probe an interval after the start, then one an interval
// after the last one's end, so that they never pile up.
//
// It tells only when the verdict changes. What it found out before the agent was
// restarted holds until it comes to another verdict.
type prober struct {
	runtime   container.Runtime
	id        string // the container's, in the runtime
	container string // its name
	run       time.Time
	check     container.Healthcheck
	tell      func(task.Fact)
	log       *zap.Logger

	// health is the latest verdict, and failing counts the failures since the last
	// success.
	health  task.Health
	failing int
}

// loop probes until ctx ends.
func (p *prober) loop(ctx context.Context) {
	wait := min(p.check.Interval-time.Since(p.run), p.check.Interval)
	if wait <= 0 {
		// The agent was restarted, and so were the probers of all other containers.
		wait = rand.N(p.check.Interval)
	}
	for ; backoff.Wait(ctx, wait); wait = p.check.Interval {
		began := time.Now()
		code, output, err := p.probe(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case noVerdict(err):
			p.log.Debug("the container's health cannot be probed now", zap.String("container", p.container), zap.Error(err))
		default:
			p.judge(began, code, output)
		}
	}
}

// noVerdict says whether an error is not the container's doing: it is about to
// end, or it is paused, or the runtime is away.
func noVerdict(err error) bool {
	return errors.Is(err, container.ErrNotRunning) || errors.Is(err, container.ErrNotFound) || errors.Is(err, container.ErrUnavailable)
}

// probe runs the check once. A check that could not be run to its end has the
// code -1; err is set only where nothing can be said.
func (p *prober) probe(ctx context.Context) (code int, output string, err error) {
	limited, cancel := context.WithTimeoutCause(ctx, p.check.Timeout, errProbeTimeout)
	defer cancel()
	var said head
	code, err = p.runtime.Exec(limited, p.id, container.ExecRequest{Args: p.check.Test, Stdout: &said, Stderr: &said})
	switch {
	case err == nil:
		return code, said.text(), nil
	case ctx.Err() != nil || noVerdict(err):
		return -1, "", err
	case errors.Is(err, errProbeTimeout):
		return -1, cut(fmt.Sprintf("Health check exceeded timeout (%s): %s", p.check.Timeout, said.text())), nil
	default:
		return -1, cut(err.Error()), nil
	}
}

// judge counts a probe that began then. Failures in the start period do not
// count, until a success has ended it.
func (p *prober) judge(began time.Time, code int, output string) {
	verdict := p.health
	if code == 0 {
		p.failing = 0
		verdict = task.HealthHealthy
	} else if p.health != task.HealthUnknown || began.Sub(p.run) >= p.check.StartPeriod {
		p.failing++
		if p.failing >= p.check.Retries {
			verdict = task.HealthUnhealthy
		}
	}
	if verdict == p.health {
		return
	}
	p.health = verdict
	p.tell(task.HealthChanged{
		Container: p.container, Health: verdict, Run: p.run, ExitCode: code, Output: output, At: time.Now(),
	})
}

// head keeps the beginning of what is written to it. A probe's two streams are
// written to it at once.
type head struct {
	mu   sync.Mutex // guards data
	data []byte
}

// Write implements io.Writer. It takes everything.
func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if room := maxOutput*utf8.UTFMax - len(h.data); room > 0 {
		h.data = append(h.data, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

// text is what was kept, as far as it is shown.
func (h *head) text() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return cut(string(h.data))
}

// cut is the beginning of a text, without what is no text.
func cut(s string) string {
	s = strings.ToValidUTF8(s, "")
	n := 0
	for i := range s {
		if n == maxOutput {
			return s[:i]
		}
		n++
	}
	return s
}
