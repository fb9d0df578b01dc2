package localcluster_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/agent/wire/ecs"
	"github.com/berthd/berth/runtime/await"
)

// updateAgent asks for an update, which must be taken.
func (a *standIn) updateAgent() {
	a.t.Helper()
	out := must[ecs.UpdateContainerAgentResponse](a.t, a.s, ecs.OpUpdateContainerAgent, ecs.UpdateContainerAgentRequest{ContainerInstance: a.arn})
	if out.ContainerInstance.AgentUpdateStatus != ecs.UpdatePending {
		a.t.Errorf("status %s", out.ContainerInstance.AgentUpdateStatus)
	}
}

// refusesUpdate asks for one that must be refused.
func (a *standIn) refusesUpdate(kind string) {
	a.t.Helper()
	_, err := call[ecs.UpdateContainerAgentResponse](a.t, a.s, ecs.OpUpdateContainerAgent, ecs.UpdateContainerAgentRequest{ContainerInstance: a.arn})
	if !errors.Is(err, &ecs.Error{Type: kind}) {
		a.t.Errorf("%v, want %s", err, kind)
	}
}

func (a *standIn) status(t *testing.T, want string) {
	t.Helper()
	await.That(t, "status "+want, func() bool { return a.instance().AgentUpdateStatus == want })
}

// known waits until the cluster knows which agent it is.
func (a *standIn) known(t *testing.T) {
	t.Helper()
	await.That(t, "the agent to be known", func() bool { v := a.instance().VersionInfo; return v != nil && v.AgentVersion != "" })
}

func (a *standIn) acknowledges(id string) {
	a.send(&acs.AckRequest{Cluster: "default", ContainerInstance: a.arn, MessageID: id})
}

// restart ends the connection, waits until the cluster has read all of it, and opens the next.
func (a *standIn) restart(t *testing.T) {
	t.Helper()
	_ = a.conn.CloseNow()
	await.That(t, "disconnected", func() bool { return !a.instance().AgentConnected })
	a.connect()
}

func offering(t *testing.T) localcluster.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.tar")
	if err := os.WriteFile(path, []byte("an agent"), 0o600); err != nil {
		t.Fatal(err)
	}
	return localcluster.Config{AgentUpdate: path}
}

func TestUpdateContainerAgent(t *testing.T) {
	s, _ := start(t, offering(t))
	a := register(t, s)
	a.refusesUpdate(ecs.ErrTypeMissingVersion)
	a.connect().known(t)
	a.updateAgent()
	stage := expect[*acs.StageUpdateMessage](a)
	a.status(t, ecs.UpdateStaging)
	a.refusesUpdate(ecs.ErrTypeUpdateInProgress)
	resp, err := http.Get(stage.UpdateInfo.Location)
	if err != nil {
		t.Fatal(err)
	}
	file, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(file); string(file) != "an agent" || hex.EncodeToString(sum[:]) != stage.UpdateInfo.Signature {
		t.Errorf("%q is not what %+v says", file, stage.UpdateInfo)
	}
	a.acknowledges(stage.MessageID)
	perform := expect[*acs.PerformUpdateMessage](a)
	a.status(t, ecs.UpdateUpdating)
	a.acknowledges(perform.MessageID)
	a.hash = "aaaaaaaa"
	a.restart(t)
	a.status(t, ecs.UpdateUpdated)

	// The next one ends where it began.
	a.updateAgent()
	a.acknowledges(expect[*acs.StageUpdateMessage](a).MessageID)
	a.acknowledges(expect[*acs.PerformUpdateMessage](a).MessageID)
	a.restart(t)
	a.status(t, ecs.UpdateFailed)
}

func TestAgentRefusesUpdate(t *testing.T) {
	s, _ := start(t, offering(t))
	a := register(t, s).connect()
	a.known(t)
	a.updateAgent()
	stage := expect[*acs.StageUpdateMessage](a)
	a.send(&acs.NackRequest{Cluster: "default", ContainerInstance: a.arn, MessageID: stage.MessageID, Reason: "Updates are disabled"})
	a.status(t, ecs.UpdateFailed)
	a.updateAgent() // It may be asked for again.
}

// An agent whose connection broke is told again what it was not heard to have understood.
func TestUpdateOverAConnection(t *testing.T) {
	s, _ := start(t, offering(t))
	a := register(t, s).connect()
	a.known(t)
	a.updateAgent()
	expect[*acs.StageUpdateMessage](a)
	a.connect()
	a.acknowledges(expect[*acs.StageUpdateMessage](a).MessageID)
	expect[*acs.PerformUpdateMessage](a)
	a.connect()
	a.acknowledges(expect[*acs.PerformUpdateMessage](a).MessageID)
	await.That(t, "the answer to be heard", func() bool { return a.instance().AgentUpdateStatus == ecs.UpdateUpdating })
}

func TestNoUpdateIsOffered(t *testing.T) {
	s, _ := start(t, localcluster.Config{})
	a := register(t, s).connect()
	a.known(t)
	a.refusesUpdate(ecs.ErrTypeNoUpdateAvailable)
}
