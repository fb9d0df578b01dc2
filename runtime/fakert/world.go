package fakert

import (
	"context"
	"slices"
	"time"

	"github.com/berthd/berth/runtime/container"
)

// watcher is one reader of Events. Its queue has no bound: a test that does not
// read must not stop the world.
type watcher struct {
	queue []container.Event
	more  chan struct{} // one token: the queue is not empty
}

// Events implements container.Runtime.
func (r *Runtime) Events(ctx context.Context) <-chan container.Event {
	w := &watcher{more: make(chan struct{}, 1)}
	w.push(container.Event{Kind: container.EventResync, At: time.Now()})
	r.mu.Lock()
	r.watchers[w] = struct{}{}
	r.mu.Unlock()
	out := make(chan container.Event)
	go func() {
		defer close(out)
		defer func() {
			r.mu.Lock()
			delete(r.watchers, w)
			r.mu.Unlock()
		}()
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.more:
			}
			r.mu.Lock()
			events := w.queue
			w.queue = nil
			r.mu.Unlock()
			for _, e := range events {
				select {
				case out <- e:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out
}

// push queues an event. The caller holds the Runtime's lock, or is the only one
// who knows w.
func (w *watcher) push(e container.Event) {
	w.queue = append(w.queue, e)
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// emit sends an event of rec unless its script loses it. The caller holds mu.
func (r *Runtime) emit(rec *record, e container.Event) {
	if rec.script.LoseEvents {
		return
	}
	e.ID, e.At = rec.spec.ID, time.Now()
	for w := range r.watchers {
		w.push(e)
	}
}

// Exit ends the init of a running container, as if it had done so itself. A
// zero At is now. It says whether there was something to end.
func (r *Runtime) Exit(id string, exit container.Exit) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, ok := r.containers[id]
	if !ok || rec.status.Phase != container.Running {
		return false
	}
	if exit.OOMKilled {
		r.emit(rec, container.Event{Kind: container.EventOOM})
	}
	r.end(rec, exit)
	return true
}

// Vanish removes a container, running or not, behind everybody's back: no event
// tells of it.
func (r *Runtime) Vanish(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, ok := r.containers[id]
	if !ok {
		return
	}
	rec.script.LoseEvents = true
	if rec.status.Phase == container.Running {
		r.end(rec, container.Exit{Known: true})
	}
	delete(r.containers, id)
}

// Reboot loses every process, as a reboot of the host does: what ran is
// Stopped with an exit that nobody knows, and no event tells of it.
func (r *Runtime) Reboot() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.containers {
		if rec.status.Phase == container.Running {
			lose := rec.script.LoseEvents
			rec.script.LoseEvents = true
			r.end(rec, container.Exit{})
			rec.script.LoseEvents = lose
		}
	}
}

// Break takes the runtime away: every call answers ErrUnavailable until Mend.
// Containers go on.
func (r *Runtime) Break() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = true
}

// Mend brings the runtime back and has every watcher list again.
func (r *Runtime) Mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = false
	for w := range r.watchers {
		w.queue = nil
		w.push(container.Event{Kind: container.EventResync, At: time.Now()})
	}
}

// Calls is what the runtime was told so far, in order and a line each: "pull
// REF", "create ID", "start ID", "signal ID NUMBER", "remove ID", "exec ID
// ARGS". List and Events are not in it.
func (r *Runtime) Calls() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// Fetches is how often the image of this digest was fetched.
func (r *Runtime) Fetches(digest string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fetches[digest]
}

// Spec is what the container was created from.
func (r *Runtime) Spec(id string) (container.Spec, bool) {
	rec, ok := r.record(id)
	if !ok {
		return container.Spec{}, false
	}
	return rec.spec, true
}
