package localcluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/berthd/berth/agent/wire/ecs"
)

// maxBody is the largest call that is read; the service allows 1 MiB.
const maxBody = 1 << 20

// operation is one call of the API: it reads the body, looks at or changes the
// state, and gives the answer as JSON. Answers are written while the state is
// locked, because they hold parts of it.
type operation struct {
	changes bool
	submits bool // An agent's report, which a fault can refuse.
	run     func(s *state, body []byte) ([]byte, error)
}

func reads[In, Out any](f func(*state, *In) (*Out, error)) operation {
	return operation{run: func(s *state, body []byte) ([]byte, error) {
		in := new(In)
		if err := ecs.Decode(body, in); err != nil {
			return nil, err
		}
		out, err := f(s, in)
		if err != nil {
			return nil, err
		}
		return json.Marshal(out)
	}}
}

func changes[In, Out any](f func(*state, *In) (*Out, error)) operation {
	op := reads(f)
	op.changes = true
	return op
}

func submits[In, Out any](f func(*state, *In) (*Out, error)) operation {
	op := changes(f)
	op.submits = true
	return op
}

// operations is the table of all calls. DiscoverPollEndpoint is apart: it needs
// to know by which address the caller reached the server.
func operations() map[string]operation {
	return map[string]operation{
		ecs.OpCreateCluster:                 changes((*state).createCluster),
		ecs.OpDeleteAttributes:              changes((*state).deleteAttributes),
		ecs.OpDeleteCluster:                 changes((*state).deleteCluster),
		ecs.OpDeregisterContainerInstance:   changes((*state).deregisterInstance),
		ecs.OpDeregisterTaskDefinition:      changes((*state).deregisterTaskDefinition),
		ecs.OpDescribeClusters:              reads((*state).describeClusters),
		ecs.OpDescribeContainerInstances:    reads((*state).describeInstances),
		ecs.OpDescribeTaskDefinition:        reads((*state).describeTaskDefinition),
		ecs.OpDescribeTasks:                 reads((*state).describeTasks),
		ecs.OpExecuteCommand:                reads((*state).executeCommand),
		ecs.OpGetTaskProtection:             changes((*state).getProtection),
		ecs.OpListAttributes:                reads((*state).listAttributes),
		ecs.OpListClusters:                  reads((*state).listClusters),
		ecs.OpListContainerInstances:        reads((*state).listInstances),
		ecs.OpListTagsForResource:           reads((*state).listTags),
		ecs.OpListTaskDefinitionFamilies:    reads((*state).listFamilies),
		ecs.OpListTaskDefinitions:           reads((*state).listTaskDefinitions),
		ecs.OpListTasks:                     reads((*state).listTasks),
		ecs.OpPutAttributes:                 changes((*state).putAttributes),
		ecs.OpRegisterContainerInstance:     changes((*state).registerInstance),
		ecs.OpRegisterTaskDefinition:        changes((*state).registerTaskDefinition),
		ecs.OpRunTask:                       changes((*state).runTask),
		ecs.OpStartTask:                     changes((*state).startTask),
		ecs.OpStopTask:                      changes((*state).stopTask),
		ecs.OpSubmitAttachmentStateChanges:  submits((*state).submitAttachments),
		ecs.OpSubmitContainerStateChange:    submits((*state).submitContainer),
		ecs.OpSubmitTaskStateChange:         submits((*state).submitTask),
		ecs.OpTagResource:                   changes((*state).tagResource),
		ecs.OpUntagResource:                 changes((*state).untagResource),
		ecs.OpUpdateContainerAgent:          changes((*state).updateAgent),
		ecs.OpUpdateContainerInstancesState: changes((*state).updateInstancesState),
		ecs.OpUpdateTaskProtection:          changes((*state).updateProtection),
	}
}

// serveAPI answers POST /.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", ecs.ContentType)
	w.Header().Set(ecs.RequestIDHeader, uuid.NewString())
	name, _ := strings.CutPrefix(r.Header.Get(ecs.TargetHeader), ecs.Target)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.writeError(w, refuse(ecs.ErrTypeSerialization, "cannot read body: "+err.Error()))
		return
	}
	arrived := time.Now()
	if refusal := s.checkSignature(r, body); refusal != nil {
		s.writeError(w, refusal)
		return
	}
	answer, err := s.call(r, name, body)
	if err != nil {
		s.log.Info("call refused", zap.String("operation", name), zap.Error(err))
		s.writeError(w, err)
		return
	}
	if name == ecs.OpSubmitTaskStateChange {
		s.submitted(arrived, body)
	}
	s.log.Debug("call", zap.String("operation", name))
	_, _ = w.Write(answer) // The caller may have gone.
}

func (s *Server) checkSignature(r *http.Request, body []byte) error {
	if s.conf.AccessKey == "" {
		return nil
	}
	if refusal := s.verifier.verify(r.Context(), request(r, body)); refusal != nil {
		return refusal
	}
	return nil
}

func (s *Server) call(r *http.Request, name string, body []byte) (answer []byte, err error) {
	if name == ecs.OpDiscoverPollEndpoint {
		return s.discover(r, body)
	}
	op, ok := s.operations[name]
	if !ok {
		return nil, refuse(ecs.ErrTypeUnknownOperation, "A local cluster does not have the operation "+strconv.Quote(name)+".")
	}
	if op.submits {
		s.faults.holdSubmit(r.Context())
		if s.faults.refuseSubmit() {
			return nil, refuse(ecs.ErrTypeServer, "Refused by a fault that was asked for.")
		}
	}
	if !op.changes {
		s.ledger.view(func(st *state) { answer, err = op.run(st, body) })
		return answer, err
	}
	err = s.ledger.change(func(st *state) error {
		answer, err = op.run(st, body)
		return err
	})
	if err == nil {
		s.hub.wake()
	}
	return answer, err
}

// discover tells an agent where the websockets are, by the address it used.
func (s *Server) discover(r *http.Request, body []byte) ([]byte, error) {
	var in ecs.DiscoverPollEndpointRequest
	if err := ecs.Decode(body, &in); err != nil {
		return nil, err
	}
	var err error
	s.ledger.view(func(st *state) {
		var cluster *ecs.Cluster
		if cluster, err = st.cluster(in.Cluster); err == nil && in.ContainerInstance != "" && st.instance(cluster, in.ContainerInstance) == nil {
			err = client("The referenced container instance was not found.")
		}
	})
	if err != nil {
		return nil, err
	}
	base := "http://" + r.Host
	return json.Marshal(ecs.DiscoverPollEndpointResponse{
		Endpoint: base + "/acs/", TelemetryEndpoint: base + "/tcs/",
		ServiceConnectEndpoint: base + "/sc/", SystemLogsEndpoint: base + "/logs/",
	})
}

// writeError writes an error in the form of ECS; what is not an ECS error is a
// ServerException.
func (s *Server) writeError(w http.ResponseWriter, err error) {
	refusal, ok := errors.AsType[*ecs.Error](err)
	if !ok {
		s.log.Error("call failed", zap.Error(err))
		refusal = refuse(ecs.ErrTypeServer, fmt.Sprintf("cannot serve the call: %v", err))
	}
	status := http.StatusBadRequest
	switch refusal.Type {
	case ecs.ErrTypeServer:
		status = http.StatusInternalServerError
	case ecs.ErrTypeInvalidSignature, ecs.ErrTypeMissingAuthenticationToken, ecs.ErrTypeIncompleteSignature:
		status = http.StatusForbidden
	}
	w.Header().Set(ecs.ErrorTypeHeader, refusal.Type)
	w.WriteHeader(status)
	raw, err := json.Marshal(refusal)
	if err != nil {
		s.log.Error("cannot write error", zap.Error(err))
		return
	}
	_, _ = w.Write(raw) // The caller may have gone.
}
