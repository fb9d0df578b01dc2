package ctrd

import (
	"context"
	"errors"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/backoff"
	"github.com/berthd/berth/runtime/container"
)

const (
	// syncTopic is that of an event of our own: the stream is open once it comes
	// back.
	syncTopic = "/berth/sync"
	// syncEvery is the time between two of them.
	syncEvery = 100 * time.Millisecond
	// reopenPause is the longest pause before a broken stream is opened again.
	reopenPause = time.Second
)

// Events implements container.Runtime.
func (r *Runtime) Events(ctx context.Context) <-chan container.Event {
	out := make(chan container.Event, 64) // a burst while the reader lists
	ctx, cancel := context.WithCancelCause(r.ns(ctx))
	stop := context.AfterFunc(r.life, func() { cancel(errClosed) })
	r.background.Go(func() {
		defer close(out)
		defer cancel(nil)
		defer stop()
		pause := 10 * time.Millisecond
		for {
			opened, err := r.stream(ctx, out)
			if ctx.Err() != nil {
				return
			}
			if opened {
				pause = 10 * time.Millisecond
				r.log.Info("containerd's event stream ended and is opened again", zap.Error(err))
			}
			if !backoff.Wait(ctx, pause) {
				return
			}
			pause = min(2*pause, reopenPause)
		}
	})
	return out
}

// stream passes the events of one stream on until it breaks, after a resync.
// opened says that it had begun.
func (r *Runtime) stream(ctx context.Context, out chan<- container.Event) (opened bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var filters []string
	for _, topic := range []string{"/tasks/start", "/tasks/exit", "/tasks/oom", "/containers/delete", syncTopic} {
		filters = append(filters, "namespace=="+quote(r.cfg.Namespace)+",topic=="+quote(topic))
	}
	envelopes, errs := r.client.EventService().Subscribe(ctx, filters...)
	send := func(e container.Event) bool {
		select {
		case out <- e:
			return true
		case <-ctx.Done():
			return false
		}
	}
	if opened, err := r.awaitSync(ctx, envelopes, errs); !opened {
		return false, err
	}
	if !send(container.Event{Kind: container.EventResync, At: time.Now()}) {
		return true, context.Cause(ctx)
	}
	for {
		select {
		case err := <-errs:
			return true, err
		case e := <-envelopes:
			if e.Topic == syncTopic {
				continue
			}
			event, ok := r.event(ctx, e)
			if ok && !send(event) {
				return true, context.Cause(ctx)
			}
		}
	}
}

// awaitSync returns once an event of our own came back, so that the stream is
// known to be open. What came before it is covered by the resync that follows.
func (r *Runtime) awaitSync(ctx context.Context, envelopes <-chan *events.Envelope, errs <-chan error) (opened bool, err error) {
	probe := time.NewTicker(syncEvery)
	defer probe.Stop()
	for {
		if err := r.probe(ctx); err != nil {
			return false, err
		}
		for again := false; !again; {
			select {
			case err := <-errs:
				return false, err
			case <-probe.C:
				again = true
			case e := <-envelopes:
				if e.Topic == syncTopic {
					return true, nil
				}
				_, _ = r.event(ctx, e) // An exit is kept all the same.
			}
		}
	}
}

// probe publishes an event that our own stream will bring back.
func (r *Runtime) probe(ctx context.Context) error {
	return r.client.EventService().Publish(ctx, syncTopic, &apievents.NamespaceUpdate{Name: r.cfg.Namespace})
}

// event translates containerd's event; ok is false for one that says nothing
// about a container.
func (r *Runtime) event(ctx context.Context, e *events.Envelope) (event container.Event, ok bool) {
	value, err := typeurl.UnmarshalAny(e.Event)
	if err != nil {
		r.log.Warn("cannot decode an event of containerd", zap.String("topic", e.Topic), zap.Error(err))
		return container.Event{}, false
	}
	event.At = e.Timestamp
	switch v := value.(type) {
	case *apievents.TaskStart:
		event.Kind, event.ID = container.EventStarted, v.GetContainerID()
	case *apievents.TaskExit:
		if v.GetID() != v.GetContainerID() {
			return event, false // a process of Exec
		}
		event.Kind, event.ID = container.EventExited, v.GetContainerID()
		event.At = v.GetExitedAt().AsTime()
		event.Exit = r.exitOf(ctx, v.GetContainerID())
		r.settleLater(event.ID)
	case *apievents.TaskOOM:
		event.Kind, event.ID = container.EventOOM, v.GetContainerID()
		// containerd 1.6 says it ten times.
		if _, told := r.ooms.LoadOrStore(event.ID, struct{}{}); told {
			return event, false
		}
	case *apievents.ContainerDelete:
		event.Kind, event.ID = container.EventRemoved, v.GetID()
		r.ooms.Delete(event.ID)
		r.memoryKills.forget(event.ID)
	default:
		return event, false
	}
	return event, true
}

// exitOf reads the exit of a container that has just ended, while its task is
// still there; nil when it is not, so that whoever needs it looks at Status.
func (r *Runtime) exitOf(ctx context.Context, id string) *container.Exit {
	st, err := r.list(ctx, []string{id})
	if err != nil && !errdefs.IsNotFound(err) && !errors.Is(err, context.Canceled) {
		r.log.Debug("cannot read the exit of a container", zap.String("container", id), zap.Error(err))
	}
	if len(st) != 1 {
		return nil
	}
	return st[0].Exit
}
