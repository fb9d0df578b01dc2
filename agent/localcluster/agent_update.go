package localcluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/agent/wire/ecs"
)

// agentUpdatePath is where the file lies that agents are told of.
const agentUpdatePath = "/_berth/agent-update"

// agentUpdate is the update of a host's agent that was asked for last.
//
//	PENDING ─► STAGING ─► STAGED ─► UPDATING ─► UPDATED
//	              └─────────┴──────────┴──────► FAILED
type agentUpdate struct {
	Info acs.UpdateInfo `json:"info"`
	// From is the hash of the agent that is to be replaced.
	From string `json:"from"`
	// Message is the id of the one whose answer is awaited, Reason what it was refused with.
	Message string `json:"message,omitempty"`
	Reason  string `json:"reason,omitempty"`
	// Told says that the agent agreed to be another one when it is seen again.
	Told bool `json:"told,omitempty"`
}

// offer is the file that agents are told of: where it lies and its SHA-256.
func (s *Server) offer() (info acs.UpdateInfo, err error) {
	if s.conf.AgentUpdate == "" {
		return info, refuse(ecs.ErrTypeNoUpdateAvailable, "There is no update available for your container agent.")
	}
	f, err := os.Open(s.conf.AgentUpdate)
	if err != nil {
		return info, fmt.Errorf("cannot offer an update: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return info, fmt.Errorf("cannot offer an update: %w", err)
	}
	return acs.UpdateInfo{Location: s.URL() + agentUpdatePath, Signature: hex.EncodeToString(sum.Sum(nil))}, nil
}

// serveAgentUpdate is that file.
func (s *Server) serveAgentUpdate(w http.ResponseWriter, r *http.Request) {
	if s.conf.AgentUpdate == "" {
		http.NotFound(w, r)
		return
	}
	http.ServeFile(w, r, s.conf.AgentUpdate)
}

func (s *state) updateAgent(in *ecs.UpdateContainerAgentRequest) (*ecs.UpdateContainerAgentResponse, error) {
	cluster, err := s.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	i := s.instance(cluster, in.ContainerInstance)
	switch {
	case i == nil || i.Status == ecs.StatusInactive:
		return nil, client("The referenced container instance was not found.")
	case i.VersionInfo == nil || i.VersionInfo.AgentVersion == "":
		return nil, refuse(ecs.ErrTypeMissingVersion, "ECS does not know which version of the agent runs on the container instance.")
	}
	switch i.AgentUpdateStatus {
	case ecs.UpdatePending, ecs.UpdateStaging, ecs.UpdateStaged, ecs.UpdateUpdating:
		return nil, refuse(ecs.ErrTypeUpdateInProgress, "There is already a container agent update in progress on the container instance.")
	}
	info, err := s.env.offer()
	if err != nil {
		return nil, err
	}
	i.AgentUpdateStatus, i.Update = ecs.UpdatePending, &agentUpdate{Info: info, From: i.VersionInfo.AgentHash}
	i.Version++
	shown := s.showInstance(i, nil)
	return &ecs.UpdateContainerAgentResponse{ContainerInstance: &shown}, nil
}

// seen is told of each connection of an agent: after an update it should be another one. What it was not heard to have understood it is
// told again.
func (i *instance) seen(hash string) {
	u := i.Update
	if u == nil {
		return
	}
	switch {
	case u.Told && hash != u.From:
		i.AgentUpdateStatus = ecs.UpdateUpdated
	case u.Told:
		i.AgentUpdateStatus, u.Reason = ecs.UpdateFailed, "the agent is the one from before the update"
	case i.AgentUpdateStatus == ecs.UpdateStaging:
		i.AgentUpdateStatus = ecs.UpdatePending
	case i.AgentUpdateStatus == ecs.UpdateUpdating:
		i.AgentUpdateStatus = ecs.UpdateStaged
	}
}

// order tells the agent the next step of its update, if there is one.
func (a *acsSession) order(ctx context.Context) error {
	var message acs.Message
	id := uuid.NewString()
	due := false
	a.server.ledger.view(func(st *state) {
		i := st.Instances[a.who.instanceARN]
		due = i != nil && (i.AgentUpdateStatus == ecs.UpdatePending || i.AgentUpdateStatus == ecs.UpdateStaged)
	})
	if !due {
		return nil
	}
	err := a.server.ledger.change(func(st *state) error {
		i := st.Instances[a.who.instanceARN]
		info := i.Update.Info
		switch i.AgentUpdateStatus {
		case ecs.UpdatePending:
			i.AgentUpdateStatus = ecs.UpdateStaging
			message = &acs.StageUpdateMessage{MessageID: id, ClusterARN: a.who.clusterARN, ContainerInstanceARN: a.who.instanceARN, UpdateInfo: &info}
		case ecs.UpdateStaged:
			i.AgentUpdateStatus = ecs.UpdateUpdating
			message = &acs.PerformUpdateMessage{MessageID: id, ClusterARN: a.who.clusterARN, ContainerInstanceARN: a.who.instanceARN, UpdateInfo: &info}
		}
		i.Update.Message = id
		return nil
	})
	if err != nil || message == nil {
		return err
	}
	return a.send(ctx, message)
}

// ordered notes the answer to a step of the update, and orders the next. refusal is why there is none.
func (a *acsSession) ordered(ctx context.Context, id, refusal string) error {
	ours := false
	a.server.ledger.view(func(st *state) {
		i := st.Instances[a.who.instanceARN]
		ours = i != nil && i.Update != nil && i.Update.Message == id && id != ""
	})
	if !ours {
		return nil
	}
	err := a.server.ledger.change(func(st *state) error {
		i := st.Instances[a.who.instanceARN]
		i.Update.Message = ""
		switch {
		case refusal != "":
			i.AgentUpdateStatus, i.Update.Reason = ecs.UpdateFailed, refusal
		case i.AgentUpdateStatus == ecs.UpdateStaging:
			i.AgentUpdateStatus = ecs.UpdateStaged
		case i.AgentUpdateStatus == ecs.UpdateUpdating:
			i.Update.Told = true
		}
		return nil
	})
	if refusal != "" {
		a.log.Warn("agent refused an update", zap.String("reason", refusal))
	}
	return errors.Join(err, a.order(ctx))
}
