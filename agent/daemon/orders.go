package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/control/acs"
	"github.com/berthd/berth/agent/update"
	wire "github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/runtime/backoff"
)

// Words of the ECS agent (spec/host.md §5.1).
const (
	updatesDisabled  = "Updates are disabled"
	invalidUpdate    = "Invalid update: "
	cannotDownload   = "Unable to download: "
	newUpdateArrived = "New update arrived: "
	cannotPerform    = "Cannot perform update; "
	notDownloaded    = cannotPerform + "update not downloaded"
)

// lastAck is how long the answer to an order may take to leave before the agent goes without.
const lastAck = 5 * time.Second

// errSuperseded ends the download of an update that another one took the place of.
var errSuperseded = errors.New("another update is to be made")

// UpdateOrders is what orders need of updates; agent/update has it. Its methods may be called at once.
type UpdateOrders interface {
	// Stage fetches a release and answers its version; signature is what ECS named.
	Stage(ctx context.Context, signature string) (version string, err error)
	// Switch makes it current.
	Switch(version string, before update.Before) error
	// Outcome is the last update as it stands now.
	Outcome() (update.Record, error)
	// Staged and KeepStaged remember what ECS had this host fetch.
	Staged() (update.Staged, error)
	KeepStaged(s update.Staged) error
}

// orders are ECS's StageUpdate and PerformUpdate. Where ECS says that the update lies is not where it is fetched from, nor is what lies
// there ours to run: see agent/docs/decisions/0014.
type orders struct {
	make   UpdateOrders // nil while updates are disabled
	before func() update.Before
	// spread is how far apart the hosts are that are told of an update at the same moment: each waits a part of it, by chance, before it
	// fetches. ECS orders the switch when a host has fetched, so the restarts are as far apart.
	spread time.Duration
	log    *zap.Logger

	group sync.WaitGroup

	mu     sync.Mutex // guards what is below
	ctx    func() context.Context
	staged update.Staged
	cancel context.CancelCauseFunc // of the download under way; nil when there is none
	// awaited is the message whose answer has to leave before the agent goes.
	awaited string
	left    chan struct{} // closed when it has
	version string
}

var _ acs.Updates = (*orders)(nil)

// newOrders knows again what was staged before the agent was started.
func newOrders(m UpdateOrders, before func() update.Before, spread time.Duration, log *zap.Logger) *orders {
	o := &orders{make: m, before: before, spread: spread, log: log, left: make(chan struct{})}
	if m != nil {
		var err error
		if o.staged, err = m.Staged(); err != nil {
			log.Warn("ECS has to have the update fetched again", zap.Error(err))
		}
	}
	o.ctx = context.Background
	return o
}

// run ends the agent when it is to be another version; until then it owns the downloads.
func (o *orders) run(ctx context.Context) error {
	own, cancel := context.WithCancelCause(ctx)
	o.mu.Lock()
	o.ctx = func() context.Context { return own }
	o.mu.Unlock()
	defer o.group.Wait()
	defer cancel(errStopped)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-o.left:
		return &RestartError{o.version}
	}
}

// Order carries an order out.
func (o *orders) Order(m wire.Message, answer func(wire.Message)) {
	switch m := m.(type) {
	case *wire.StageUpdateMessage:
		o.stage(m, answer)
	case *wire.PerformUpdateMessage:
		o.perform(m, answer)
	}
}

// Sent lets the agent go once ECS has its answer.
func (o *orders) Sent(m wire.Message) {
	ack, ok := m.(*wire.AckRequest)
	o.mu.Lock()
	defer o.mu.Unlock()
	if ok && o.awaited != "" && ack.MessageID == o.awaited {
		o.awaited = ""
		close(o.left)
	}
}

func (o *orders) stage(m *wire.StageUpdateMessage, answer func(wire.Message)) {
	ack := &wire.AckRequest{Cluster: m.ClusterARN, ContainerInstance: m.ContainerInstanceARN, MessageID: m.MessageID}
	nack := func(id, reason string) *wire.NackRequest {
		return &wire.NackRequest{Cluster: m.ClusterARN, ContainerInstance: m.ContainerInstanceARN, MessageID: id, Reason: reason}
	}
	if refusal := o.refusal(m); refusal != "" {
		answer(nack(m.MessageID, refusal))
		return
	}
	signature := m.UpdateInfo.Signature
	o.mu.Lock()
	if o.staged.Signature == signature {
		o.mu.Unlock()
		answer(ack)
		return
	}
	previous := o.staged.MessageID
	if o.cancel != nil {
		o.cancel(errSuperseded)
	}
	ctx, cancel := context.WithCancelCause(o.ctx())
	o.staged, o.cancel = update.Staged{MessageID: m.MessageID, Signature: signature}, cancel
	o.group.Go(func() {
		defer cancel(nil)
		switch err := o.fetch(ctx, m.MessageID, signature); {
		case err == nil:
			answer(ack)
		case errors.Is(context.Cause(ctx), errSuperseded): // Whoever took its place has answered for it.
		default:
			o.log.Warn("cannot stage the update that ECS ordered", zap.Error(err))
			answer(nack(m.MessageID, cannotDownload+err.Error()))
		}
	})
	o.mu.Unlock()
	if previous != "" {
		answer(nack(previous, newUpdateArrived+m.MessageID))
	}
}

// refusal is why an order to stage is not taken, or "".
func (o *orders) refusal(m *wire.StageUpdateMessage) string {
	switch info := m.UpdateInfo; {
	case o.make == nil:
		return updatesDisabled
	case info == nil:
		return invalidUpdate + "no update info given"
	case info.Location == "":
		return invalidUpdate + "no location given"
	case info.Signature == "":
		return invalidUpdate + "no signature given"
	}
	// ECS repeats a message that it does not know to have arrived. Whoever wants the version once more asks anew, by another message.
	if r, err := o.make.Outcome(); err == nil && r.Phase == update.Returned && r.Order != "" && r.Order == m.MessageID {
		return cannotDownload + r.CameBack().Error()
	}
	return ""
}

// fetch stages, when it is this host's turn, and remembers what.
func (o *orders) fetch(ctx context.Context, message, signature string) error {
	turn := backoff.Jittered(0, o.spread)
	o.log.Info("ECS has an update staged", zap.Duration("fetched after", turn))
	var version string
	var err error
	if backoff.Wait(ctx, turn) {
		version, err = o.make.Stage(ctx, signature)
	} else {
		err = context.Cause(ctx)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.staged.MessageID != message {
		return errSuperseded
	}
	o.cancel = nil
	if err == nil {
		done := update.Staged{MessageID: message, Signature: signature, Version: version}
		if err = o.make.KeepStaged(done); err == nil {
			o.staged = done
			o.log.Info("an update is staged", zap.String("version", version))
			return nil
		}
	}
	o.staged = update.Staged{}
	return err
}

func (o *orders) perform(m *wire.PerformUpdateMessage, answer func(wire.Message)) {
	version, refusal := o.change(m.MessageID)
	if refusal != "" {
		answer(&wire.NackRequest{Cluster: m.ClusterARN, ContainerInstance: m.ContainerInstanceARN, MessageID: m.MessageID, Reason: refusal})
		return
	}
	o.log.Info("ECS orders the update", zap.String("version", version))
	answer(&wire.AckRequest{Cluster: m.ClusterARN, ContainerInstance: m.ContainerInstanceARN, MessageID: m.MessageID})
	o.mu.Lock()
	defer o.mu.Unlock()
	ctx := o.ctx()
	o.group.Go(func() {
		timer := time.NewTimer(lastAck)
		defer timer.Stop()
		select {
		case <-timer.C:
			o.Sent(&wire.AckRequest{MessageID: m.MessageID})
		case <-o.left:
		case <-ctx.Done():
		}
	})
}

// change makes the staged version current; the message's answer is then awaited. refusal is why it does not, or "".
func (o *orders) change(message string) (version, refusal string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.make == nil:
		return "", updatesDisabled
	case o.staged.Version == "":
		return "", notDownloaded
	}
	version = o.staged.Version
	before := o.before()
	before.Order = o.staged.MessageID
	if err := o.make.Switch(version, before); err != nil {
		return "", cannotPerform + err.Error()
	}
	o.staged = update.Staged{}
	if err := o.make.KeepStaged(o.staged); err != nil {
		o.log.Warn("cannot forget what was staged", zap.Error(err))
	}
	o.version, o.awaited = version, message
	return version, ""
}
