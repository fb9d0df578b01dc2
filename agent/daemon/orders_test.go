package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/update"
	wire "github.com/berthd/berth/agent/wire/acs"
)

// releaser is a host that can be updated; a script says how its downloads end.
type releaser struct {
	downloads map[string]chan error // by signature
	kept      update.Staged
	current   string
	refuses   error
}

// Stage waits for the script.
func (r *releaser) Stage(ctx context.Context, signature string) (string, error) {
	select {
	case err := <-r.downloads[signature]:
		return "version-" + signature, err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// Switch switches, unless the script has it refuse.
func (r *releaser) Switch(version string, before update.Before) error {
	if r.refuses == nil {
		r.current = fmt.Sprint(version, before.Tasks)
	}
	return r.refuses
}

// Staged is what was kept.
func (r *releaser) Staged() (update.Staged, error) { return r.kept, nil }

// KeepStaged keeps.
func (r *releaser) KeepStaged(s update.Staged) error {
	r.kept = s
	return nil
}

// exchange is a conversation with ECS.
type exchange struct {
	t       *testing.T
	orders  *orders
	host    *releaser
	answers []string
	ended   chan error
	stop    context.CancelCauseFunc
}

func newExchange(t *testing.T, host *releaser) *exchange {
	t.Helper()
	e := &exchange{t: t, host: host, ended: make(chan error, 1)}
	var m UpdateOrders
	if host != nil {
		m = host
	}
	e.orders = newOrders(m, func() update.Before { return update.Before{Tasks: []string{"t1"}} }, zap.NewNop())
	ctx, stop := context.WithCancelCause(t.Context())
	e.stop = stop
	go func() { e.ended <- e.orders.run(ctx) }()
	synctest.Wait()
	return e
}

func (e *exchange) answer(m wire.Message) {
	switch m := m.(type) {
	case *wire.AckRequest:
		e.answers = append(e.answers, m.MessageID+" ack")
	case *wire.NackRequest:
		if m.Cluster != "c" || m.ContainerInstance != "i" {
			e.t.Errorf("%+v", m)
		}
		e.answers = append(e.answers, m.MessageID+" nack "+m.Reason)
	}
}

func (e *exchange) stage(id string, info *wire.UpdateInfo) {
	e.orders.Order(&wire.StageUpdateMessage{MessageID: id, ClusterARN: "c", ContainerInstanceARN: "i", UpdateInfo: info}, e.answer)
	synctest.Wait()
}

func (e *exchange) perform(id string) {
	e.orders.Order(&wire.PerformUpdateMessage{MessageID: id, ClusterARN: "c", ContainerInstanceARN: "i"}, e.answer)
	synctest.Wait()
}

func (e *exchange) downloaded(signature string, err error) {
	e.host.downloads[signature] <- err
	synctest.Wait()
}

func (e *exchange) expect(want ...string) {
	e.t.Helper()
	if !slices.Equal(e.answers, want) {
		e.t.Errorf("answers:\n%s\nwant:\n%s", strings.Join(e.answers, "\n"), strings.Join(want, "\n"))
	}
	e.answers = nil
}

func (e *exchange) end() {
	e.stop(errStopped)
	if err := <-e.ended; !errors.Is(err, errStopped) {
		e.t.Error(err)
	}
}

func newReleaser() *releaser {
	return &releaser{downloads: map[string]chan error{"s1": make(chan error), "s2": make(chan error)}, current: "old"}
}

func info(signature string) *wire.UpdateInfo {
	return &wire.UpdateInfo{Location: "https://somewhere/agent.tar", Signature: signature}
}

// The table of spec/host.md §5.1.
func TestOrdersAreAnsweredAsTheSpecHasIt(t *testing.T) {
	t.Run("disabled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := newExchange(t, nil)
			e.stage("m1", info("s1"))
			e.perform("m2")
			e.expect("m1 nack Updates are disabled", "m2 nack Updates are disabled")
			e.end()
		})
	})
	t.Run("invalid", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := newExchange(t, newReleaser())
			e.stage("m1", nil)
			e.stage("m2", &wire.UpdateInfo{Signature: "s1"})
			e.stage("m3", &wire.UpdateInfo{Location: "l"})
			e.perform("m4")
			e.expect("m1 nack Invalid update: no update info given", "m2 nack Invalid update: no location given",
				"m3 nack Invalid update: no signature given", "m4 nack Cannot perform update; update not downloaded")
			e.end()
		})
	})
	t.Run("staged and performed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := newExchange(t, newReleaser())
			e.stage("m1", info("s1"))
			e.expect()
			e.perform("early")
			e.expect("early nack Cannot perform update; update not downloaded")
			e.stage("again", info("s1"))
			e.expect("again ack")
			e.downloaded("s1", nil)
			e.stage("and again", info("s1"))
			e.expect("m1 ack", "and again ack")
			e.perform("go")
			e.expect("go ack")
			if e.host.current != "version-s1[t1]" || e.host.kept != (update.Staged{}) {
				t.Errorf("%+v", e.host)
			}
			select {
			case err := <-e.ended:
				t.Fatalf("the agent went before its answer: %v", err)
			default:
			}
			e.orders.Sent(&wire.AckRequest{MessageID: "another"})
			e.orders.Sent(&wire.AckRequest{MessageID: "go"})
			var restart *RestartError
			if err := <-e.ended; !errors.As(err, &restart) || restart.Version != "version-s1" {
				t.Error(err)
			}
		})
	})
	t.Run("the answer never leaves", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := newExchange(t, newReleaser())
			e.stage("m1", info("s1"))
			e.downloaded("s1", nil)
			e.perform("go")
			var restart *RestartError
			if err := <-e.ended; !errors.As(err, &restart) { // synctest's clock goes to lastAck.
				t.Error(err)
			}
		})
	})
	t.Run("superseded", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := newExchange(t, newReleaser())
			e.stage("m1", info("s1"))
			e.stage("m2", info("s2"))
			e.expect("m1 nack New update arrived: m2")
			e.downloaded("s2", nil)
			e.expect("m2 ack")
			e.stage("m3", info("s1")) // Also once it is there.
			e.expect("m2 nack New update arrived: m3")
			e.end()
		})
	})
	t.Run("not to be had", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := newExchange(t, newReleaser())
			e.stage("m1", info("s1"))
			e.downloaded("s1", errors.New("the mirror is away"))
			e.expect("m1 nack Unable to download: the mirror is away")
			e.perform("m2")
			e.expect("m2 nack Cannot perform update; update not downloaded")
			e.stage("m3", info("s1")) // It is tried anew.
			e.downloaded("s1", nil)
			e.host.refuses = update.ErrUnproven
			e.perform("m4")
			e.expect("m3 ack", "m4 nack Cannot perform update; the last update has yet to prove itself")
			e.end()
		})
	})
	t.Run("restarted in between", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := newExchange(t, newReleaser())
			e.stage("m1", info("s1"))
			e.downloaded("s1", nil)
			e.end()
			e = newExchange(t, e.host)
			e.perform("go")
			e.expect("go ack")
			e.orders.Sent(&wire.AckRequest{MessageID: "go"})
			if err := <-e.ended; err == nil {
				t.Error("the agent ended without a reason")
			}
		})
	})
}
