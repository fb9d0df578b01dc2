package ctrd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/berthd/berth/runtime/container"
)

const (
	// execMark is in the environment of every process run by Exec and so of its
	// children, which are found by it when they must be killed.
	execMark = "BERTH_EXEC"
	// returnPause is the pause between questions to a containerd that is away.
	returnPause = 200 * time.Millisecond
	// drain is how long the output of a process is waited for that has exited:
	// a child in the background may hold the pipe for ever.
	drain = 2 * time.Second
	// farewell bounds the killing and deleting of a process, beginning the making of one.
	farewell  = 15 * time.Second
	beginning = time.Minute
	// shimTries is how often a shim is asked that does not answer.
	shimTries = 10
)

// errFarewell ends a clean-up that containerd does not answer, errBeginning a start.
var (
	errFarewell  = errors.New("containerd did not end the process in time")
	errBeginning = errors.New("containerd did not start the process in time")
)

// Exec implements container.Runtime. A Stdin whose Read blocks is read from
// until that Read returns, which may be after Exec has returned.
func (r *Runtime) Exec(ctx context.Context, id string, req container.ExecRequest) (int, error) {
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	ctx = r.ns(ctx)
	if len(req.Args) == 0 {
		return 0, container.Errorf(container.KindStart, "no command to run in container %s", id)
	}
	p, err := r.answering(ctx, id)
	if errdefs.IsNotFound(err) || (err == nil && p.GetStatus() != tasktypes.Status_RUNNING) {
		return 0, r.gone(ctx, container.KindStart, id)
	}
	if err != nil {
		return 0, r.fail(ctx, container.KindStart, "find container "+id, err)
	}
	s, err := r.load(ctx, id)
	if err != nil {
		return 0, r.fail(ctx, container.KindStart, "find container "+id, err)
	}
	x := &execution{r: r, stored: s, initPID: int(p.GetPid()), id: fmt.Sprintf("exec-%016x", rand.Uint64())}
	code, err := x.run(ctx, req)
	if errors.Is(err, container.ErrUnavailable) {
		return 0, err // It says the context's cause too.
	}
	return code, r.fail(ctx, container.KindStart, "run a process in container "+id, err)
}

// execution is one process run in a container.
type execution struct {
	r       *Runtime
	stored  stored
	initPID int
	id      string
	pid     int // in the host's namespace, once started
}

func (x *execution) run(ctx context.Context, req container.ExecRequest) (int, error) {
	if req.Keep != "" {
		return x.keep(ctx, req)
	}
	encoded, err := x.process(req)
	if err != nil {
		return 0, err
	}
	streams, err := openStreams(x.r.cfg.StateDir, x.id, x.stored.ID, req)
	if err != nil {
		return 0, err
	}
	defer streams.close()
	pipes := complete(streams.paths, req.Terminal)
	err = x.begin(ctx, &tasks.ExecProcessRequest{
		ContainerID: x.stored.ID, ExecID: x.id, Spec: encoded,
		Terminal: req.Terminal, Stdin: pipes.Stdin, Stdout: pipes.Stdout, Stderr: pipes.Stderr,
	})
	if err != nil {
		return 0, err
	}
	defer func() { streams.unfinished = !x.delete(ctx) }()
	if req.Started != nil {
		req.Started(false)
	}
	streams.copy(func() error {
		_, err := x.r.tasks().CloseIO(x.r.ns(context.WithoutCancel(ctx)), &tasks.CloseIORequest{
			ContainerID: x.stored.ID, ExecID: x.id, Stdin: true,
		})
		return native(err)
	})
	defer x.resize(ctx, req)()
	code, err := x.wait(ctx)
	if ended := context.Cause(ctx); ended != nil {
		x.kill(ctx)
		if err == nil {
			err = ended
		}
		return 0, err
	}
	if err == nil {
		streams.wait(drain)
	}
	return code, err
}

// begin has containerd make and start the process. That does not end with the
// caller's context: a process that comes to run after its caller has left would
// be nobody's.
func (x *execution) begin(ctx context.Context, request *tasks.ExecProcessRequest) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), beginning, errBeginning)
	defer cancel()
	if _, err := x.r.tasks().Exec(ctx, request); err != nil {
		return x.noTask(native(err))
	}
	started, err := x.r.tasks().Start(ctx, &tasks.StartRequest{ContainerID: x.stored.ID, ExecID: x.id})
	if err != nil {
		x.killProcesses() // It may run all the same, when it is containerd that has gone.
		x.delete(ctx)
		return x.noTask(native(err))
	}
	x.pid = int(started.GetPid())
	return nil
}

// wait waits for the process's end and returns its exit code. A containerd that
// goes away is waited for too: the shim keeps what it will be asked again. The
// error of a ctx that ends while it is away says both.
func (x *execution) wait(ctx context.Context) (int, error) {
	ticker := time.NewTicker(returnPause)
	defer ticker.Stop()
	for {
		exit, err := x.r.tasks().Wait(ctx, &tasks.WaitRequest{ContainerID: x.stored.ID, ExecID: x.id})
		if err == nil {
			return int(exit.GetExitStatus()), nil
		}
		if ended := context.Cause(ctx); ended != nil {
			return 0, ended
		}
		if err = native(err); !isUnavailable(err) {
			return 0, x.noTask(err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("%w while containerd was away: %w", context.Cause(ctx), container.ErrUnavailable)
		}
	}
}

// noTask makes the error of a container that ended meanwhile clear.
func (x *execution) noTask(err error) error {
	if errdefs.IsNotFound(err) && strings.Contains(err.Error(), "process") || strings.Contains(err.Error(), "container not running") ||
		strings.Contains(err.Error(), "cannot exec in a stopped") {
		return fmt.Errorf("container %s: %w", x.stored.ID, container.ErrNotRunning)
	}
	return err
}

// process is the encoded spec of the process: the container's, changed as asked.
func (x *execution) process(req container.ExecRequest) (*anypb.Any, error) {
	p, err := x.stored.process()
	if err != nil {
		return nil, err
	}
	secret, err := x.r.secretNames(x.stored)
	if err != nil {
		return nil, err
	}
	p.Env = without(p.Env, secret) // the front adds what the request does not replace
	p.Args = req.Args
	p.Terminal = req.Terminal
	env := req.Env
	if req.Terminal {
		select { // a size that is known already holds from the first byte on
		case size := <-req.Resize:
			p.ConsoleSize = &specs.Box{Width: uint(size.Width), Height: uint(size.Height)}
		default:
		}
		env = append([]string{"TERM=xterm"}, env...)
	}
	p.Env = override(p.Env, env)
	if req.Keep == "" {
		p.Env = override(p.Env, []string{execMark + "=" + x.id})
	}
	if req.WorkingDir != "" {
		p.Cwd = cleanPath(req.WorkingDir)
	}
	if req.User != "" {
		// Names are looked up in the file system as it is now.
		names, err := readAccounts(fmt.Sprintf("/proc/%d/root", x.initPID))
		if err != nil {
			return nil, fmt.Errorf("cannot read the container's users: %w", err)
		}
		if p.User, err = names.resolve(req.User, nil); err != nil {
			return nil, err
		}
		if p.Capabilities != nil {
			p.Capabilities = processCaps(p.Capabilities.Bounding, p.User.UID)
		}
	}
	encoded, err := typeurl.MarshalAnyToProto(p)
	if err != nil {
		return nil, fmt.Errorf("cannot encode process: %w", err)
	}
	return encoded, nil
}

// resize passes terminal sizes on; the returned function ends that.
func (x *execution) resize(ctx context.Context, req container.ExecRequest) func() {
	if !req.Terminal || req.Resize == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case size, ok := <-req.Resize:
				if !ok {
					return
				}
				_, err := x.r.tasks().ResizePty(ctx, &tasks.ResizePtyRequest{
					ContainerID: x.stored.ID, ExecID: x.id, Width: uint32(size.Width), Height: uint32(size.Height),
				})
				if err != nil && ctx.Err() == nil {
					x.r.log.Debug("cannot resize terminal", zap.String("container", x.stored.ID), zap.Error(err))
				}
			}
		}
	}()
	return func() { cancel(nil); <-done }
}

// delete takes the process's record away, and says whether it could. The process
// must not run any more.
func (x *execution) delete(ctx context.Context) bool {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), farewell, errFarewell)
	defer cancel()
	_, err := x.r.tasks().DeleteProcess(ctx, &tasks.DeleteProcessRequest{ContainerID: x.stored.ID, ExecID: x.id})
	if err = native(err); err != nil && !errdefs.IsNotFound(err) {
		x.r.log.Warn("cannot delete a process", zap.String("container", x.stored.ID), zap.Error(err))
		return false
	}
	return true
}
