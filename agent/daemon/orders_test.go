package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
	order     string // of the last switch
	outcome   update.Record
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
		r.current, r.order = fmt.Sprint(version, before.Tasks), before.Order
	}
	return r.refuses
}

// Outcome is what the script says.
func (r *releaser) Outcome() (update.Record, error) { return r.outcome, nil }

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
	e.orders = newOrders(m, func() update.Before { return update.Before{Tasks: []string{"t1"}} }, 0, zap.NewNop())
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
			if e.host.current != "version-s1[t1]" || e.host.order != "m1" || e.host.kept != (update.Staged{}) {
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
	t.Run("it came back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			host := newReleaser()
			host.outcome = update.Record{Phase: update.Returned, To: "1.1.0", Reason: "ACS: not connected", Order: "m1"}
			e := newExchange(t, host)
			e.stage("m1", info("s1")) // ECS repeats itself.
			e.expect("m1 nack Unable to download: it came back from the last update (ACS: not connected); berth update --to 1.1.0 tries it again")
			e.stage("m2", info("s1")) // Somebody asks anew.
			e.downloaded("s1", nil)
			e.expect("m2 ack")
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

// A fleet that is told at one moment asks the source of releases one by one, and every host in time.
func TestHostsAreUpdatedApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hosts, spread = 100, 30 * time.Second
		began := time.Now()
		fetched := make(chan time.Duration, hosts)
		ctx, cancel := context.WithCancelCause(t.Context())
		var running sync.WaitGroup
		for range hosts {
			o := newOrders(fetching(func() { fetched <- time.Since(began) }), func() update.Before { return update.Before{} }, spread, zap.NewNop())
			running.Go(func() { _ = o.run(ctx) })
			synctest.Wait()
			o.Order(&wire.StageUpdateMessage{MessageID: "m", UpdateInfo: info("s")}, func(m wire.Message) {
				if _, ok := m.(*wire.AckRequest); !ok {
					t.Errorf("answered %T", m)
				}
			})
		}
		var perSecond [30]int
		for range hosts {
			perSecond[min(int((<-fetched)/time.Second), len(perSecond)-1)]++
		}
		if took := time.Since(began); took >= spread {
			t.Errorf("the last one asked after %s", took)
		}
		// Three in a second are to be expected. One second of that many has less than one chance in 10^12.
		if most := slices.Max(perSecond[:]); most > 25 {
			t.Errorf("%d asked within a second", most)
		}
		cancel(errStopped)
		running.Wait()
	})
}

// fetching is a host whose release is there at once.
type fetching func()

// Stage tells.
func (f fetching) Stage(context.Context, string) (string, error) {
	f()
	return "1.1.0", nil
}

// Switch is not asked for.
func (fetching) Switch(string, update.Before) error { return errors.New("nobody ordered that") }

// Outcome is that of a host that was never updated.
func (fetching) Outcome() (update.Record, error) { return update.Record{}, nil }

// Staged is nothing.
func (fetching) Staged() (update.Staged, error) { return update.Staged{}, nil }

// KeepStaged forgets.
func (fetching) KeepStaged(update.Staged) error { return nil }

// Who waits for its turn is not kept by it from ending, nor from a newer order.
func TestTurnIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newExchange(t, newReleaser())
		e.orders.spread = time.Hour
		e.stage("m1", info("s1"))
		e.stage("m2", info("s2"))
		e.expect("m1 nack New update arrived: m2")
		e.end()
		e.expect("m2 nack Unable to download: " + errStopped.Error())
	})
}
