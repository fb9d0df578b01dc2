package localcluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"go.uber.org/zap"

	"github.com/berthd/berth/agent/wire/ecs"
)

// shutdownGrace is how long calls under way may take when the server stops.
const shutdownGrace = 3 * time.Second

// Server is a one-host ECS. Its methods may be used by many goroutines at once.
type Server struct {
	conf       Config
	log        *zap.Logger
	listener   net.Listener
	ledger     *ledger
	vault      *vault
	verifier   *verifier
	hub        *hub
	telemetry  *telemetry
	milestones *milestones
	faults     *faults
	registry   http.Handler
	operations map[string]operation
	sessions   sync.WaitGroup // Websocket sessions, which the HTTP server does not wait for.
}

// New reads the state, opens the registry and starts to listen. Run must be
// called to serve; Close frees the port if it is not going to be.
func New(conf Config) (*Server, error) {
	conf, err := conf.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		conf: conf, log: conf.Log, hub: newHub(), telemetry: newTelemetry(), milestones: newMilestones(), faults: &faults{}, operations: operations(),
		vault: newVault(conf.AccessKey, conf.SecretKey, conf.Timing.Credentials),
	}
	s.verifier = &verifier{region: conf.Region, signer: v4.NewSigner(), secret: s.vault.secret}
	s.vault.loan = conf.Loan
	env := &environment{
		region: conf.Region, account: conf.AccountID, stoppedFor: conf.Timing.Stopped,
		interfaces: conf.Interfaces, connected: s.hub.connected, offer: s.offer,
	}
	if s.ledger, err = openLedger(conf.StateFile, env); err != nil {
		return nil, err
	}
	if !conf.NoDefaultCluster && s.ledger.state.Clusters[defaultCluster] == nil {
		if _, err := s.ledger.state.createCluster(&ecs.CreateClusterRequest{}); err != nil {
			return nil, err
		}
	}
	if s.registry, err = newRegistry(conf.RegistryDir, conf.Log.Named("registry")); err != nil {
		return nil, err
	}
	if s.listener, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", conf.Listen); err != nil {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	return s, nil
}

// Addr is host:port of the server, known once New returned.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// URL is the endpoint for the ECS API, such as http://127.0.0.1:4601.
func (s *Server) URL() string { return "http://" + s.Addr() }

// InterfaceOwners are the ARNs of the tasks that have a network interface and have
// not stopped.
func (s *Server) InterfaceOwners() []string {
	var owners []string
	s.ledger.view(func(st *state) {
		for arn, t := range st.Tasks {
			if t.Interface != nil && t.LastStatus != ecs.StatusStopped {
				owners = append(owners, arn)
			}
		}
	})
	return owners
}

// Close frees the port of a server that is not running.
func (s *Server) Close() error { return s.listener.Close() }

// Run serves until the context ends, then closes the connections, waits for
// them, and writes the state a last time. It gives nil after an orderly end.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The ledger outlives the sessions and calls, which still change it.
	keep, stopKeeping := context.WithCancelCause(context.WithoutCancel(ctx))
	kept := make(chan error, 1) // One result, never blocks the keeper.
	go func() { kept <- s.ledger.run(keep) }()

	server := &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    zap.NewStdLog(s.log),
	}
	stopped := make(chan error, 1) // One result, never blocks the stopper.
	go func() {
		<-ctx.Done()
		grace, done := context.WithTimeoutCause(context.WithoutCancel(ctx), shutdownGrace, errClosed)
		defer done()
		err := server.Shutdown(grace)
		if errors.Is(err, context.DeadlineExceeded) {
			err = server.Close()
		}
		stopped <- err
	}()
	s.log.Info("local cluster is listening", zap.String("endpoint", s.URL()))
	err := server.Serve(s.listener)
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	cancel(errClosed)
	err = errors.Join(err, <-stopped)
	s.sessions.Wait()
	stopKeeping(errClosed)
	return errors.Join(err, <-kept)
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{$}", s.serveAPI)
	mux.HandleFunc("GET /acs/ws", s.serveACS)
	mux.HandleFunc("GET /tcs/ws", s.serveTCS)
	mux.HandleFunc("GET "+agentUpdatePath, s.serveAgentUpdate)
	mux.HandleFunc("GET /_berth/health", s.serveHealth)
	mux.HandleFunc("GET /_berth/metrics", s.serveMetrics)
	mux.HandleFunc("GET /_berth/frames", s.serveFrames)
	mux.HandleFunc("GET /_berth/milestones", s.serveMilestones)
	mux.HandleFunc("GET /_berth/keys/{key}", s.serveKeys)
	mux.HandleFunc("GET /_berth/faults", s.serveFaults)
	mux.HandleFunc("POST /_berth/faults", s.serveFaults)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The registry sees raw paths: the mux would clean some of them away.
		if r.URL.Path == "/v2" || strings.HasPrefix(r.URL.Path, "/v2/") {
			s.registry.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
