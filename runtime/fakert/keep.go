package fakert

import (
	"context"
	"syscall"

	"github.com/berthd/berth/runtime/container"
)

// kept is a process that outlives its caller: code and err are its answer once
// done is closed.
type kept struct {
	done chan struct{}
	code int
	err  error
}

// keep runs a process that outlives its caller, or joins the one of its name.
func (r *Runtime) keep(ctx context.Context, rec *record, stopped <-chan struct{}, req container.ExecRequest) (int, error) {
	r.mu.Lock()
	k, joined := rec.kept[req.Keep]
	if !joined {
		k = &kept{done: make(chan struct{})}
		rec.kept[req.Keep] = k
		go r.runKept(rec, stopped, req, k)
	}
	r.mu.Unlock()
	if req.Started != nil {
		req.Started(joined)
	}
	select {
	case <-k.done:
		return k.code, k.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// runKept is the process: it ends by itself or with its container.
func (r *Runtime) runKept(rec *record, stopped <-chan struct{}, req container.ExecRequest, k *kept) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if rec.script.Exec != nil {
			k.code, k.err = rec.script.Exec(ctx, req)
		}
	}()
	select {
	case <-ended:
	case <-stopped:
		cancel(container.ErrNotRunning)
		<-ended
		k.code, k.err = 128+int(syscall.SIGKILL), nil
	}
	r.mu.Lock()
	if rec.kept[req.Keep] == k {
		delete(rec.kept, req.Keep)
	}
	r.mu.Unlock()
	close(k.done)
}
