package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/awsapi"
	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/daemon"
	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/wire/ecs"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/runtime/logs"
)

// privatePatience bounds the end of a run: removing what it made.
const privatePatience = 2 * time.Minute

var (
	errRunOver      = errors.New("the run is over")
	errInterrupted  = errors.New("interrupted before the task ran")
	errNoMorePools  = errors.New("every subnet that a run would use overlaps a route of this host")
	errPrivateStuck = errors.New("tidying up takes too long")
)

// privateHost is a cluster, a log process and an agent in this process, for one run.
//
//	slot taken ─► left-overs purged ─► cluster ─► logs ─► agent ─► run ─► agent, logs, cluster stopped ─► purged ─► slot released
//
// It lives as long as close is not called, whatever happens to the context it was started with: a task has to be stopped in order.
type privateHost struct {
	slot    *slot
	host    config.Config // the host's own settings
	environ []string
	log     *zap.Logger
	options daemon.Options
	// accessKey and secretKey are the agent's for its cluster; loan is what the cluster lends tasks, nil is nothing.
	accessKey, secretKey string
	loan                 localcluster.Loan

	parts []*privatePart // in the order in which they were started
	// failed has the errors of parts that ended by themselves.
	failed chan error
}

// privatePart is something that runs until it is told to stop.
type privatePart struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
}

// startPrivate starts a host of our own. It returns once the agent answers. Its cluster has AWS credentials of this environment to lend
// if something is signed with them: the answer says what, if there are none.
func (a *app) startPrivate(ctx context.Context, level string, signed []string) (h *privateHost, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("needs root: where no agent of a local cluster answers, a run brings its own")
	}
	environ := a.env
	if environ == nil {
		environ = config.Environ()
	}
	h = &privateHost{
		environ: environ, accessKey: "berth-run-" + rand.Text(), secretKey: rand.Text(),
		failed: make(chan error, 3), // A place for each part: none waits to be heard.
	}
	if h.host, _, err = config.Load(config.Options{Environ: environ}); err != nil {
		return nil, err
	}
	if h.log, err = newLogger(a.Err, level, h.host.Agent.LogFormat); err != nil {
		return nil, err
	}
	if h.loan, err = loan(ctx, &h.host, signed, h.log); err != nil {
		return nil, err
	}
	// The agent would wait for containerd, as it should; a person wants to know.
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", h.host.Containerd.Address)
	if err != nil {
		return nil, fmt.Errorf("cannot reach containerd at %s: %w", h.host.Containerd.Address, err)
	}
	_ = conn.Close() // Nothing was said.
	if h.slot, err = takeSlot(h.host.Paths); err != nil {
		return nil, err
	}
	if err := h.start(ctx); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

func (h *privateHost) start(ctx context.Context) error {
	if h.slot.left {
		if err := h.purge(ctx); err != nil {
			return fmt.Errorf("cannot tidy up after a run that was killed: %w", err)
		}
	}
	cluster, err := localcluster.New(localcluster.Config{
		Region: h.host.Region, AccessKey: h.accessKey, SecretKey: h.secretKey, Loan: h.loan, Log: h.log.Named("cluster"),
	})
	if err != nil {
		return err
	}
	h.begin(ctx, "the cluster", cluster.Run)
	if err := h.configure(cluster.URL(), 0); err != nil {
		return err
	}
	paths := h.options.Config.Paths
	drivers, err := logDrivers(&h.options.Config, h.environ, h.log.Named("logs"))
	if err != nil {
		return err
	}
	h.begin(ctx, "the log process", func(ctx context.Context) error {
		return logs.Run(ctx, logs.ServerConfig{
			Socket: paths.LogSocket, Dir: filepath.Join(paths.Run, "logs"), DataDir: filepath.Join(paths.Data, "logs"),
			Drivers: drivers, QueueLimit: int64(h.options.Config.Agent.LogQueueMB) << 20, Log: h.log.Named("logs"),
		})
	})
	return h.startAgent(ctx, cluster.URL())
}

// startAgent starts the agent, on the first subnet that is free.
func (h *privateHost) startAgent(ctx context.Context, endpoint string) error {
	for try := 0; ; try++ {
		if err := h.configure(endpoint, try); err != nil {
			return err
		}
		ready := make(chan struct{})
		o := h.options
		o.Ready = func() { close(ready) }
		h.begin(ctx, "the agent", func(ctx context.Context) error { return daemon.Run(ctx, o) })
		select {
		case <-ready:
			return nil
		case <-ctx.Done():
			return errInterrupted
		case err := <-h.failed:
			if _, overlaps := errors.AsType[*ipam.OverlapError](err); !overlaps {
				return err
			}
		}
	}
}

// configure makes the agent's settings with the try-th choice of a subnet.
func (h *privateHost) configure(endpoint string, try int) error {
	own, ok := h.slot.environ(&h.host, endpoint, try)
	if !ok {
		return errNoMorePools
	}
	// The last of a name counts. Nobody else on this host may pose as the agent.
	environ := slices.Concat(h.environ, own, []string{"AWS_ACCESS_KEY_ID=" + h.accessKey, "AWS_SECRET_ACCESS_KEY=" + h.secretKey})
	c, warnings, err := config.Load(config.Options{Environ: environ})
	if err != nil {
		return err
	}
	for _, w := range warnings {
		h.log.Info("setting", zap.Stringer("about", w))
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find this program: %w", err)
	}
	b := ThisBuild()
	h.options = daemon.Options{Config: c, Environ: environ, Version: b.Version, Revision: b.Revision, Init: []string{self, "init"}, Log: h.log}
	return nil
}

// begin starts a part.
func (h *privateHost) begin(ctx context.Context, name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	p := &privatePart{cancel: cancel, done: make(chan struct{})}
	h.parts = append(h.parts, p)
	go func() {
		defer close(p.done)
		err := run(ctx)
		switch {
		case ctx.Err() == nil:
			h.failed <- fmt.Errorf("%s ended: %w", name, orOver(err))
		case err != nil && !errors.Is(err, context.Cause(ctx)):
			h.log.Error("cannot end in order", zap.String("part", name), zap.Error(err))
		}
	}()
}

func orOver(err error) error {
	if err == nil {
		return errors.New("it returned without an error")
	}
	return err
}

// close stops everything, and removes what it made on the host. Images stay in containerd for the next run.
func (h *privateHost) close() error {
	for _, p := range slices.Backward(h.parts) {
		p.cancel(errRunOver)
		<-p.done
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), privatePatience, errPrivateStuck)
	defer cancel()
	var err error
	if h.slot.untidy() {
		err = h.purge(ctx)
	}
	return errors.Join(err, h.slot.release())
}

// purge removes what this run, or one before it, made on the host.
func (h *privateHost) purge(ctx context.Context) error {
	if h.options.Log == nil { // before there is a cluster, and an address of it
		if err := h.configure("http://127.0.0.1:0", 0); err != nil {
			return err
		}
	}
	return daemon.Purge(ctx, h.options)
}

// target is the host as a run sees it.
func (h *privateHost) target() *runTarget {
	c := &h.options.Config
	keys := awsapi.NewCredentials(awsapi.CredentialsConfig{AccessKeyID: h.accessKey, SecretAccessKey: h.secretKey})
	return &runTarget{
		client: hostapi.NewClient(c.Paths.Socket), api: newECSCaller(c.Endpoint, awsapi.NewSigner(keys, c.Region, ecs.SigningName).SignRequest),
		containerd: c.Containerd, failed: h.failed, close: h.close, lender: "credentials of your own",
	}
}
