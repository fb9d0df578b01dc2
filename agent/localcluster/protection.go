package localcluster

import (
	"time"

	"github.com/berthd/berth/agent/wire/ecs"
)

// defaultProtection is how long scale-in protection lasts when nobody says.
const defaultProtection = 2 * time.Hour

func (s *state) getProtection(in *ecs.GetTaskProtectionRequest) (*ecs.GetTaskProtectionResponse, error) {
	tasks, failures, err := s.protectedTasks(in.Cluster, in.Tasks, func(*task) {})
	return &ecs.GetTaskProtectionResponse{ProtectedTasks: tasks, Failures: failures}, err
}

func (s *state) updateProtection(in *ecs.UpdateTaskProtectionRequest) (*ecs.UpdateTaskProtectionResponse, error) {
	life := defaultProtection
	if in.ExpiresInMinutes != nil {
		if *in.ExpiresInMinutes < 1 || *in.ExpiresInMinutes > 2880 {
			return nil, invalid("expiresInMinutes: must be between 1 and 2880")
		}
		life = time.Duration(*in.ExpiresInMinutes) * time.Minute
	}
	tasks, failures, err := s.protectedTasks(in.Cluster, in.Tasks, func(t *task) {
		t.Protected, t.ProtectedUntil = in.ProtectionEnabled, ecs.Timestamp{}
		if t.Protected {
			t.ProtectedUntil = ecs.At(time.Now().Add(life))
		}
	})
	return &ecs.UpdateTaskProtectionResponse{ProtectedTasks: tasks, Failures: failures}, err
}

// protectedTasks applies a change to the named tasks and shows their protection.
func (s *state) protectedTasks(clusterRef string, refs []string, change func(*task)) ([]ecs.ProtectedTask, []ecs.Failure, error) {
	cluster, err := s.cluster(clusterRef)
	if err != nil {
		return nil, nil, err
	}
	if len(refs) == 0 || len(refs) > 10 {
		return nil, nil, invalid("tasks: must have between 1 and 10 entries")
	}
	shown, failures := []ecs.ProtectedTask{}, []ecs.Failure{}
	for _, ref := range refs {
		t := s.task(cluster, ref)
		if t == nil || t.LastStatus == ecs.StatusStopped {
			failures = append(failures, s.missing("task", cluster, ref))
			continue
		}
		change(t)
		if t.Protected && time.Now().After(t.ProtectedUntil.Time) {
			t.Protected, t.ProtectedUntil = false, ecs.Timestamp{}
		}
		shown = append(shown, ecs.ProtectedTask{TaskARN: t.TaskARN, ProtectionEnabled: t.Protected, ExpirationDate: t.ProtectedUntil})
	}
	return shown, failures, nil
}
