package taskmeta

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/berthd/berth/agent/wire/ecs"
)

const (
	// tagsKept is how long an answer of ECS is used again, tagsRetry how long its
	// refusal is: many containers ask at once, and the service limits the calls of
	// a whole account.
	tagsKept  = 30 * time.Second
	tagsRetry = 5 * time.Second
	// askECS bounds a question to ECS, so that the answer fits into a response.
	askECS = 4 * time.Second
	// tagsMost is how many resources are remembered; a host has far fewer tasks.
	tagsMost = 4096
)

var errSlow = errors.New("ECS took too long to answer")

// TagLister asks ECS for the tags of a resource. container names who wanted it,
// for the user agent of the call.
type TagLister interface {
	Tags(ctx context.Context, arn, container string) ([]ecs.Tag, error)
}

// tagCache remembers tags for a while. Whoever comes while ECS is being asked
// waits for that answer.
type tagCache struct {
	lister TagLister

	// asking are the questions under way; whoever serves waits for them at the end.
	asking sync.WaitGroup

	mu      sync.Mutex // guards entries
	entries map[string]*tagEntry
}

// tagEntry is one question. done is closed once tags, err and until are final.
type tagEntry struct {
	done  chan struct{}
	tags  map[string]string
	err   error
	until time.Time
}

func newTagCache(l TagLister) *tagCache {
	return &tagCache{lister: l, entries: map[string]*tagEntry{}}
}

// of begins to find out the tags of a resource, or finds who does already. The
// entry may be read once its done is closed.
func (c *tagCache) of(ctx context.Context, arn, container string) *tagEntry {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[arn]; e != nil && e.fresh(now) {
		return e
	}
	c.prune(now)
	e := &tagEntry{done: make(chan struct{})}
	c.entries[arn] = e
	// The one who asks first may leave; the others wait for the answer all the same.
	bounded, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), askECS, errSlow)
	c.asking.Go(func() {
		defer cancel()
		e.ask(bounded, c.lister, arn, container)
	})
	return e
}

// fresh says whether the entry is still being asked for, or still good.
func (e *tagEntry) fresh(now time.Time) bool {
	select {
	case <-e.done:
		return now.Before(e.until)
	default:
		return true
	}
}

// ask fills the entry.
func (e *tagEntry) ask(ctx context.Context, l TagLister, arn, container string) {
	defer close(e.done)
	tags, err := l.Tags(ctx, arn, container)
	if err != nil {
		e.err, e.until = err, time.Now().Add(tagsRetry)
		return
	}
	e.tags, e.until = make(map[string]string, len(tags)), time.Now().Add(tagsKept)
	for _, t := range tags {
		e.tags[t.Key] = t.Value
	}
}

// prune forgets what is too old. The caller holds the lock.
func (c *tagCache) prune(now time.Time) {
	for arn, e := range c.entries {
		if !e.fresh(now) {
			delete(c.entries, arn)
		}
	}
	if len(c.entries) >= tagsMost {
		clear(c.entries)
	}
}

// tagFailure is an error of ECS as version 4 tells it, spec/host.md §1.8.
func tagFailure(field, arn string, err error) tagError {
	out := tagError{ErrorField: field, ErrorMessage: err.Error(), ResourceARN: arn}
	if answer, ok := errors.AsType[*ecs.Error](err); ok {
		out.ErrorCode, out.ErrorMessage = answer.Type, answer.Message
	}
	out.StatusCode, out.RequestID = answered(err)
	return out
}

// answered is the HTTP status and request id of an error that ECS answered with;
// zero of one that it did not.
func answered(err error) (status int, requestID string) {
	var response interface {
		StatusCode() int
		RequestID() string
	}
	if errors.As(err, &response) {
		return response.StatusCode(), response.RequestID()
	}
	return 0, ""
}
