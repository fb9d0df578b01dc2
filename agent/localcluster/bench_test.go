package localcluster_test

import (
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/wire/ecs"
)

// BenchmarkTask is one task from run-task to STOPPED with an agent that takes no
// time: what the service itself adds, its state kept on disk.
func BenchmarkTask(b *testing.B) {
	s, err := localcluster.New(localcluster.Config{StateFile: filepath.Join(b.TempDir(), "cluster.json"), Log: zap.NewNop()})
	if err != nil {
		b.Fatal(err)
	}
	serve(b, s)
	a := register(b, s).connect()
	web(b, s, noPorts)
	for b.Loop() {
		arn := runOne(b, s, ecs.RunTaskRequest{})
		a.payload()
		a.submit(arn, "RUNNING", ecs.ContainerStateChange{ContainerName: "web"})
		a.submit(arn, "STOPPED", ecs.ContainerStateChange{ContainerName: "web", ExitCode: new(0)})
	}
}
