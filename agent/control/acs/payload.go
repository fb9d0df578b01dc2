package acs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/task"
	wire "github.com/berthd/berth/agent/wire/acs"
)

// rejection is what the reason of a task that cannot be read begins with. The
// spelling is ECS's, and people search for it.
const rejection = "UnrecogniedTaskError: Error loading task - "

// payload carries out a PayloadMessage (§4.7): tasks to stop first, then tasks
// to run, all made durable; then, only if every task was taken on, the acks.
func (s *session) payload(ctx context.Context, m *wire.PayloadMessage) {
	if err := m.Validate(); err != nil {
		s.log.Warn("payload is ignored", zap.Error(err))
		return
	}
	w := s.sort(m)
	ok := s.rejectAll(ctx, w.rejected) && w.complete
	// Both, whatever came of the first.
	stopped := s.each(len(w.stop), func(i int) error {
		return s.taskError("cannot stop task", w.stop[i], s.cfg.Tasks.Stop(ctx, w.stop[i]))
	})
	started := s.each(len(w.run), func(i int) error {
		err := s.cfg.Tasks.Accept(ctx, w.run[i])
		if err != nil {
			// Nobody tells when a task ends that was never taken on.
			s.cfg.Credentials.RemoveTask(w.run[i].ARN)
		}
		return s.taskError("cannot take on task", w.run[i].ARN, err)
	})
	s.latest = max(s.latest, m.SeqNum)
	if !ok || !stopped || !started {
		s.log.Warn("payload is not acknowledged: not all of its tasks were taken on", zap.String("message", m.MessageID))
		return
	}
	s.send(ctx, &wire.AckRequest{Cluster: m.ClusterARN, ContainerInstance: m.ContainerInstanceARN, MessageID: m.MessageID})
	for _, set := range w.received {
		s.send(ctx, &wire.IAMRoleCredentialsAckRequest{
			MessageID: m.MessageID, Expiration: set.Expiration, CredentialsID: set.CredentialsID,
		})
	}
}

// sorted is a payload taken apart.
type sorted struct {
	// complete says that nothing stands against an acknowledgement so far.
	complete bool
	stop     []string
	run      []task.Definition
	rejected []refused
	received []*wire.IAMRoleCredentials
}

// refused is a task that cannot be run, and why.
type refused struct {
	arn string
	err error
}

// sort converts the tasks and keeps the credentials of those that are taken on.
func (s *session) sort(m *wire.PayloadMessage) sorted {
	w := sorted{complete: true}
	running := s.cfg.Tasks.Running()
	for i, t := range m.Tasks {
		switch {
		case t == nil:
			s.log.Warn("payload has a task that is null", zap.String("message", m.MessageID))
			w.complete = false
		case t.DesiredStatus == wire.DesiredStopped && t.ARN != "":
			w.stop = append(w.stop, t.ARN)
			w.received = append(w.received, s.ending(t)...)
		case slices.Contains(running, t.ARN):
			// Of a task that is known, only the desired status counts, and it is no
			// news here.
			w.received = append(w.received, s.keep(t)...)
		default:
			d, err := s.cfg.Conversion.Convert(t, fmt.Sprintf("tasks[%d]", i))
			if err != nil {
				w.rejected = append(w.rejected, refused{t.ARN, err})
				continue
			}
			w.received = append(w.received, s.keep(t)...)
			w.run = append(w.run, d)
			if d.RoleID != "" && !s.cfg.Conversion.TaskRoles {
				s.log.Warn("task has a role whose credentials this version does not serve to its containers", zap.String("task", d.ARN))
			}
		}
	}
	return w
}

// ending answers the credentials that came with a task's stop. They are kept
// only for a task that is here: it may use them until it has ended.
func (s *session) ending(t *wire.Task) []*wire.IAMRoleCredentials {
	if s.cfg.Credentials.Knows(t.ARN) {
		return s.keep(t)
	}
	return setsOf(t)
}

func setsOf(t *wire.Task) []*wire.IAMRoleCredentials {
	return slices.DeleteFunc([]*wire.IAMRoleCredentials{t.RoleCredentials, t.ExecutionRoleCredentials},
		func(c *wire.IAMRoleCredentials) bool { return c == nil || c.CredentialsID == "" })
}

// keep stores the task's credentials and answers those there were.
func (s *session) keep(t *wire.Task) []*wire.IAMRoleCredentials {
	kept := setsOf(t)
	for _, set := range kept {
		role := credentials.Application
		if set == t.ExecutionRoleCredentials {
			role = credentials.Execution
		}
		s.cfg.Credentials.Put(setOf(t.ARN, role, set))
	}
	return kept
}

func setOf(taskARN string, role credentials.Role, w *wire.IAMRoleCredentials) credentials.Set {
	return credentials.Set{
		ID: w.CredentialsID, TaskARN: taskARN, Role: role, RoleARN: w.RoleARN,
		AccessKeyID: w.AccessKeyID, SecretAccessKey: w.SecretAccessKey, SessionToken: w.SessionToken,
		Expiration: w.Expiration,
	}
}

// rejectAll reports the tasks that cannot be run. It answers false when one of
// them could not even be read, or not be reported: such a payload is not
// acknowledged.
func (s *session) rejectAll(ctx context.Context, tasks []refused) bool {
	ok := true
	for _, t := range tasks {
		if t.arn == "" {
			s.log.Warn("payload has a task without an ARN", zap.Error(t.err))
			ok = false
			continue
		}
		reason := rejection + t.err.Error()
		setUp, read := errors.AsType[*SetUpError](t.err)
		if read {
			reason = setUp.Reason
		}
		s.log.Error("task cannot be run and is reported STOPPED", zap.String("task", t.arn), zap.Error(t.err))
		reported := s.taskError("cannot report task", t.arn, s.cfg.Tasks.Reject(ctx, t.arn, reason))
		ok = ok && read && reported == nil
	}
	return ok
}

// atOnce bounds the tasks that are handed over at the same time. The store puts
// what comes at once into one transaction, so forty tasks cost little more than
// one.
const atOnce = 64

// each calls f for 0 to n-1, some at once, and says whether all went well.
func (s *session) each(n int, f func(i int) error) bool {
	var group sync.WaitGroup
	var failed atomic.Bool
	slots := make(chan struct{}, atOnce)
	for i := range n {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			if f(i) != nil {
				failed.Store(true)
			}
		})
	}
	group.Wait()
	return !failed.Load()
}

// taskError logs an error about a task, and answers it.
func (s *session) taskError(message, arn string, err error) error {
	if err != nil {
		s.log.Error(message, zap.String("task", arn), zap.Error(err))
	}
	return err
}

// credentials carries out an IAMRoleCredentialsMessage (§4.8).
func (s *session) credentials(ctx context.Context, m *wire.IAMRoleCredentialsMessage) {
	if err := m.Validate(); err != nil {
		s.log.Warn("credentials are ignored", zap.String("task", m.TaskARN), zap.Error(err))
		return
	}
	if !s.cfg.Credentials.Knows(m.TaskARN) && !slices.Contains(s.cfg.Tasks.Running(), m.TaskARN) {
		s.log.Warn("credentials are for a task that is not here", zap.String("task", m.TaskARN))
		return
	}
	s.cfg.Credentials.Put(setOf(m.TaskARN, credentials.Role(m.RoleType), m.RoleCredentials))
	s.send(ctx, &wire.IAMRoleCredentialsAckRequest{
		MessageID: m.MessageID, Expiration: m.RoleCredentials.Expiration, CredentialsID: m.RoleCredentials.CredentialsID,
	})
}
