package engine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/fakert"
)

// locked are resources of a task whose registry login cannot be had: the pull knows
// it at once, the task a moment later.
type locked struct{ nothing }

func (locked) Provision(context.Context, Task) (map[string]Outfit, error) {
	time.Sleep(time.Second)
	return nil, errors.New("asm  fetching username: AuthorizationData is malformed, empty field")
}

func (locked) Auth(context.Context, *task.Definition, *task.Container) (*container.Auth, error) {
	return nil, container.Errorf(container.KindPullAuth, "asm fetching username: AuthorizationData is malformed, empty field")
}

// TestLoginIsTheTasksReason: a login is a resource of the task, and what is wrong
// with it the task's own reason, in its words, however early the pull fails for it
// (spec/task-engine.md §1.7, §2.4).
func TestLoginIsTheTasksReason(t *testing.T) {
	for _, policy := range []container.PullPolicy{container.PullDefault, container.PullAlways} {
		t.Run(string(policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStock(fakert.Image{})
				e, stop := s.start(t, func(cfg *Config) { cfg.Resources, cfg.PullPolicy = locked{}, policy })
				defer stop()
				synctest.Wait()
				d := web("a1", 0)
				if err := e.Accept(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				time.Sleep(30 * time.Second)
				all := s.reported()
				if len(all) == 0 {
					t.Fatal("nothing was reported")
				}
				last := all[len(all)-1]
				want := task.Change{Status: task.ReportStopped, Reason: "Asm fetching username: AuthorizationData is malformed, empty field"}
				if diff := cmp.Diff([]string{string(want.Status), want.Reason}, []string{string(last.Status), last.Reason}); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}
