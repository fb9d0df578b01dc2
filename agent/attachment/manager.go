package attachment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/backoff"
)

// ErrKind says that the host knows nothing of attachments of a kind.
var ErrKind = errors.New("attachments of this kind are not supported by this host")

// A Finder knows the devices of one kind of attachment.
type Finder interface {
	// Await returns nil once the attachment's device is on the host. Otherwise it
	// returns when ctx ends, or with an error that waiting cannot mend.
	Await(ctx context.Context, a task.Attachment) error
}

// Store keeps records over a restart.
type Store interface {
	// Attach writes a record, nil to forget it, and puts changes into the outbox in
	// the line of the subject, in one transaction; it has reached the disk when it
	// returns.
	Attach(arn string, record []byte, subject string, changes ...task.Change) error
	Attachments() (map[string][]byte, error)
}

// Config is what a Manager is made of.
type Config struct {
	Store Store
	// Finders are the kinds of attachments that the host takes.
	Finders map[task.AttachmentKind]Finder
	Log     *zap.Logger
}

// record is an attachment as it is kept.
type record struct {
	task.Attachment

	// Attached says that the device was found and that this is in the outbox.
	Attached bool
}

// Manager knows the attachments of this host. Its methods may be called at once.
type Manager struct {
	store   Store
	finders map[task.AttachmentKind]Finder
	log     *zap.Logger
	// watchers counts the goroutines of attachments.
	watchers sync.WaitGroup

	mu      sync.Mutex          // guards what follows
	records map[string]*watched // by ARN
	running context.Context     //nolint:containedctx // Run's: watchers outlive the call that brought the attachment. Nil before and after.
}

// watched is a record with what ends its goroutine.
type watched struct {
	record

	// stop ends the goroutine; nil while there is none.
	stop context.CancelCauseFunc
}

// New makes a Manager of the attachments that the last agent knew.
func New(c Config) (*Manager, error) {
	m := &Manager{store: c.Store, finders: c.Finders, log: c.Log, records: map[string]*watched{}}
	kept, err := c.Store.Attachments()
	if err != nil {
		return nil, fmt.Errorf("cannot read attachments: %w", err)
	}
	for arn, data := range kept {
		w := &watched{}
		if err := json.Unmarshal(data, &w.record); err != nil {
			m.log.Error("cannot read the record of an attachment; ECS sends it again if it still wants it",
				zap.String("attachment", arn), zap.Error(err))
			continue
		}
		m.records[arn] = w
	}
	return m, nil
}

// Run waits for the devices of attachments until ctx ends, and answers why it
// did.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	m.running = ctx
	for _, w := range m.records {
		m.watch(w)
	}
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	m.running = nil
	m.mu.Unlock()
	m.watchers.Wait()
	return context.Cause(ctx)
}

// Accept takes on an attachment and returns when that is durable. One that is
// known already keeps its time; one of another name with the same device takes
// its place, for a device is attached once. The error is ErrKind, or the store's.
func (m *Manager) Accept(_ context.Context, a task.Attachment) error {
	if m.finders[a.Kind] == nil {
		return fmt.Errorf("%w: %s", ErrKind, a.Kind)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.records[a.ARN]; known {
		return nil
	}
	w := &watched{record: record{Attachment: a}}
	if err := m.save(w, w.record); err != nil {
		return err
	}
	for arn, other := range m.records {
		if other.Kind == a.Kind && other.Device() == a.Device() {
			m.log.Info("an attachment takes the place of another with the same device", zap.String("attachment", a.ARN), zap.String("was", arn))
			m.forget(other)
		}
	}
	m.records[a.ARN] = w
	m.watch(w)
	return nil
}

// Attachments are those that ECS still waits for.
func (m *Manager) Attachments() []task.Attachment {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []task.Attachment
	for _, w := range m.records {
		if !w.Attached {
			out = append(out, w.Attachment)
		}
	}
	return out
}

// watch begins the goroutine of a record. m.mu is held.
func (m *Manager) watch(w *watched) {
	if m.running == nil || w.stop != nil {
		return
	}
	ctx, cancel := context.WithCancelCause(m.running)
	w.stop = cancel
	attached := w.Attached
	m.watchers.Go(func() {
		defer cancel(nil)
		m.follow(ctx, w, attached)
	})
}

// errExpired is why it is waited no longer.
var errExpired = errors.New("ECS waits no longer for the attachment")

// errReplaced is why a record has no goroutine any more.
var errReplaced = errors.New("another attachment has the device")

// follow is the life of a record from now on.
func (m *Manager) follow(ctx context.Context, w *watched, attached bool) {
	log := m.log.With(zap.String("attachment", w.ARN), zap.String("kind", string(w.Kind)), zap.String("task", w.TaskARN))
	timed, cancel := context.WithDeadlineCause(ctx, w.ExpiresAt, errExpired)
	defer cancel()
	if !attached && timed.Err() == nil {
		attached = m.await(timed, w, log)
	}
	<-timed.Done()
	if ctx.Err() != nil {
		return // The agent ends, or the record has been replaced.
	}
	if !attached {
		log.Warn("the attachment's device did not come in time, and ECS waits no longer")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(w)
}

// await waits for the device, and has it reported.
func (m *Manager) await(ctx context.Context, w *watched, log *zap.Logger) bool {
	begun := time.Now()
	finder := m.finders[w.Kind]
	if finder == nil {
		log.Warn("an attachment is not waited for: the settings of this host have changed", zap.Error(ErrKind))
		return false
	}
	if err := finder.Await(ctx, w.Attachment); err != nil {
		if ctx.Err() == nil {
			log.Error("cannot wait for the attachment's device", zap.Error(err))
		}
		return false
	}
	for first := true; ; first = false {
		err := m.attached(ctx, w)
		if err == nil {
			break
		}
		if first {
			log.Error("cannot write down that an attachment is there; trying on", zap.Error(err))
		}
		if !backoff.Wait(ctx, retryPause) {
			return false
		}
	}
	log.Info("the attachment's device is here", zap.Duration("after", time.Since(begun).Round(time.Millisecond)))
	return true
}

// attached notes that the device is there, and puts the news into the outbox.
func (m *Manager) attached(ctx context.Context, w *watched) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	change := task.Change{Attached: &task.Attached{ARN: w.ARN, ExpiresAt: w.ExpiresAt}}
	if w.OfTask() {
		change.TaskARN = w.TaskARN
	}
	next := w.record
	next.Attached = true
	if err := m.save(w, next, change); err != nil {
		return err
	}
	w.Attached = true
	return nil
}

// save writes a record. m.mu is held.
func (m *Manager) save(w *watched, next record, changes ...task.Change) error {
	data, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("cannot encode attachment %s: %w", w.ARN, err)
	}
	if err := m.store.Attach(w.ARN, data, w.subject(), changes...); err != nil {
		return fmt.Errorf("cannot keep attachment %s: %w", w.ARN, err)
	}
	return nil
}

// subject is in whose line the news of an attachment stand: the task's, so that
// ECS hears of its interface before it hears that it runs.
func (r *record) subject() string {
	if r.OfTask() {
		return task.IDFromARN(r.TaskARN)
	}
	return r.ARN
}

// forget ends a record's goroutine and deletes it. m.mu is held. What cannot be
// deleted now, the next agent deletes when it starts.
func (m *Manager) forget(w *watched) {
	if w.stop != nil {
		w.stop(errReplaced)
	}
	delete(m.records, w.ARN)
	if err := m.store.Attach(w.ARN, nil, w.subject()); err != nil {
		m.log.Warn("cannot forget an attachment", zap.String("attachment", w.ARN), zap.Error(err))
	}
}

// retryPause is the pause before a failed write is tried again.
const retryPause = time.Second
