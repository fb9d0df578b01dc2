package control

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/agent/wire/ecs"
	"github.com/berthd/berth/runtime/backoff"
)

// Outbox keeps state changes until they are sent, over restarts too.
type Outbox interface {
	// Heads are the oldest entries of each task.
	Heads() ([]task.Entry, error)
	// Done forgets an entry, durably.
	Done(id uint64) error
	// Changed has an element when Heads may have something new.
	Changed() <-chan struct{}
}

// Submitter is the part of the ECS API that a Reporter needs.
type Submitter interface {
	SubmitTaskStateChange(ctx context.Context, r *ecs.SubmitTaskStateChangeRequest) error
	SubmitAttachmentStateChanges(ctx context.Context, r *ecs.SubmitAttachmentStateChangesRequest) error
}

// atOnce is how many changes are submitted at the same time.
const atOnce = 10

// Reporter sends what is in the outbox, spec/control-plane.md §6.4: the changes
// of a task one after the other, those of different tasks at once, each until
// the service takes it. A change that the service calls invalid is dropped: no
// later one of its task would ever be sent otherwise.
type Reporter struct {
	cluster   string
	outbox    Outbox
	api       Submitter
	addresses Addresses
	log       *zap.Logger
	// slots bounds the calls under way.
	slots chan struct{}
}

// NewReporter makes a reporter for a cluster, as it was configured.
func NewReporter(cluster string, outbox Outbox, api Submitter, addresses Addresses, log *zap.Logger) *Reporter {
	return &Reporter{
		cluster: cluster, outbox: outbox, api: api, addresses: addresses, log: log,
		slots: make(chan struct{}, atOnce),
	}
}

// reportLadder is how long to wait before a change is sent again.
func reportLadder() backoff.Ladder {
	return backoff.Ladder{First: time.Second, Last: 30 * time.Second, Factor: 1.3, Jitter: 0.2}
}

// Run sends until ctx ends, and answers why it did. It is the only one that may
// receive from the outbox's Changed.
func (r *Reporter) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	// busy are the tasks that a worker is at. The worker says when it is not.
	busy := make(map[string]bool)
	free := make(chan string)
	trouble := reportLadder()
	for {
		heads, err := r.outbox.Heads()
		if err != nil {
			delay := trouble.Next()
			r.log.Error("cannot read the outbox", zap.Duration("wait", delay), zap.Error(err))
			if !backoff.Wait(ctx, delay) {
				return context.Cause(ctx)
			}
			continue
		}
		trouble.Reset()
		for _, entry := range heads {
			arn := entry.Change.Subject()
			if busy[arn] {
				continue
			}
			busy[arn] = true
			workers.Go(func() {
				r.deliver(ctx, entry)
				select {
				case free <- arn:
				case <-ctx.Done():
				}
			})
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case arn := <-free:
			delete(busy, arn)
		case <-r.outbox.Changed():
		}
	}
}

// deliver sends one entry until it is taken, and then forgets it.
func (r *Reporter) deliver(ctx context.Context, entry task.Entry) {
	ladder := reportLadder()
	for n := 1; !r.submit(ctx, entry, &ladder, n); n++ {
		if ctx.Err() != nil {
			return
		}
	}
	for {
		err := r.outbox.Done(entry.ID)
		if err == nil {
			return
		}
		delay := ladder.Next()
		r.log.Error("cannot forget a change that was sent", zap.String("task", entry.Change.TaskARN),
			zap.Duration("wait", delay), zap.Error(err))
		if !backoff.Wait(ctx, delay) {
			return // It will be sent a second time, which does no harm.
		}
	}
}

// submit makes attempt n, and waits after one that failed. It answers true when
// the entry is dealt with. Of the attempts that failed it logs the first, second,
// fourth and so on: a day without the service is no day of log lines.
func (r *Reporter) submit(ctx context.Context, entry task.Entry, ladder *backoff.Ladder, n int) bool {
	change := &entry.Change
	if a := change.Attached; a != nil && !time.Now().Before(a.ExpiresAt) {
		r.log.Warn("attachment is not reported: ECS has stopped waiting for it",
			zap.String("attachment", a.ARN), zap.String("task", change.TaskARN))
		return true
	}
	request, cut := submission(r.cluster, change, r.addresses)
	if cut > 0 && n == 1 {
		r.log.Warn("more ports are published than ECS can be told of",
			zap.String("task", change.TaskARN), zap.Int("left out", cut))
	}
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	var err error
	if change.TaskARN == "" && change.Attached != nil {
		err = r.api.SubmitAttachmentStateChanges(ctx, &ecs.SubmitAttachmentStateChangesRequest{
			Cluster: r.cluster, Attachments: request.Attachments,
		})
	} else {
		err = r.api.SubmitTaskStateChange(ctx, request)
	}
	<-r.slots
	facts := []zap.Field{
		zap.String("task", change.TaskARN), zap.String("status", string(change.Status)),
		zap.String("reason", change.Reason), zap.Int("containers", len(change.Containers)),
	}
	if a := change.Attached; a != nil {
		facts = []zap.Field{zap.String("task", change.TaskARN), zap.String("attachment", a.ARN), zap.String("status", ecs.AttachmentAttached)}
	}
	switch {
	case err == nil:
		r.log.Info("state change sent", facts...)
		return true
	case isType(err, ecs.ErrTypeInvalidParameter):
		r.log.Error("state change dropped: ECS calls it invalid", append(facts, zap.Any("change", change), zap.Error(err))...)
		return true
	case ctx.Err() != nil:
		return false
	}
	delay := ladder.Next()
	if n&(n-1) == 0 {
		r.log.Warn("cannot send state change; trying on", append(facts, zap.Int("attempt", n), zap.Duration("wait", delay), zap.Error(err))...)
	}
	backoff.Wait(ctx, delay)
	return false
}
