package acs

import (
	"context"
	"slices"

	"go.uber.org/zap"

	wire "github.com/berthd/berth/agent/wire/acs"
)

// taskManifest compares what the service believes to be here with what is
// (§4.9), and asks about tasks that it does not list before stopping them.
func (s *session) taskManifest(ctx context.Context, m *wire.TaskManifestMessage) {
	if err := m.Validate(); err != nil {
		s.log.Warn("task manifest is ignored", zap.Error(err))
		return
	}
	if m.Timeline <= s.latest {
		s.log.Info("task manifest is older than what is known",
			zap.Int64("timeline", m.Timeline), zap.Int64("known", s.latest))
		return
	}
	if err := s.cfg.Sequence.SaveManifestSequence(m.Timeline); err != nil {
		s.log.Error("cannot save the number of the task manifest", zap.Error(err))
		return
	}
	s.latest, s.manifest = m.Timeline, m.MessageID
	listed := make(map[string]bool, len(m.Tasks))
	for _, t := range m.Tasks {
		if t.DesiredStatus == wire.DesiredRunning {
			listed[t.TaskARN] = true
		}
	}
	running := s.cfg.Tasks.Running()
	slices.Sort(running)
	var candidates []wire.ManifestTask
	for _, arn := range running {
		if !listed[arn] {
			candidates = append(candidates, wire.ManifestTask{
				TaskARN: arn, TaskClusterARN: m.ClusterARN, DesiredStatus: wire.DesiredStopped,
			})
		}
	}
	s.send(ctx, &wire.AckRequest{Cluster: m.ClusterARN, ContainerInstance: m.ContainerInstanceARN, MessageID: m.MessageID})
	if len(candidates) > 0 {
		s.log.Info("tasks run here that the service does not list", zap.Int("tasks", len(candidates)))
		s.send(ctx, &wire.TaskStopVerificationMessage{MessageID: m.MessageID, StopCandidates: candidates})
	}
}

// stopVerified stops the tasks that the service confirmed.
func (s *session) stopVerified(ctx context.Context, m *wire.TaskStopVerificationAck) {
	if m.MessageID == "" || m.MessageID != s.manifest {
		s.log.Info("confirmation is not for the last task manifest", zap.String("message", m.MessageID))
		return
	}
	s.manifest = ""
	running := s.cfg.Tasks.Running()
	for _, t := range m.StopTasks {
		if !slices.Contains(running, t.TaskARN) {
			continue
		}
		// Logged there; the next manifest asks again.
		_ = s.taskError("cannot stop task", t.TaskARN, s.cfg.Tasks.Stop(ctx, t.TaskARN))
	}
}
