package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/agent/awsapi"
	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/control/ecsapi"
	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/wire/ecs"
)

const (
	// joinPatience is how long an agent may take to join its cluster, and a task to reach it.
	joinPatience = 30 * time.Second
	// joinTick is how often it is asked.
	joinTick = 10 * time.Millisecond
)

// runFlags are the flags of run.
type runFlags struct {
	env       []string
	container string
	detach    bool
	verbose   bool
	// credentials gives containers those of whoever runs.
	credentials bool
}

func (a *app) run() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run FILE.json [-- COMMAND…]",
		Short: "Run a task definition here and now, and follow it to its end",
		Long: `Run the task definition in FILE.json (- is stdin) on this host, print what its containers write, and exit with
the exit code of the essential container that ended first. The file holds what aws ecs register-task-definition
--cli-input-json takes, or what describe-task-definition prints. Ctrl-C stops the task; a second one kills it.

Where the agent of a local cluster answers (berth local, berth agent), the task runs there. Otherwise the run
brings an agent and a cluster of its own, with a bridge and a containerd namespace that nobody else uses, for as
long as the task lasts; nothing stays but the images. A host that belongs to Amazon ECS is not touched by it. If
the run is killed, the next one tidies up.

No roles are assumed: secrets, environment files, images of Amazon ECR and the like are read with AWS credentials of
your own, found as the aws command line finds them, and containers get those only with --credentials. Output comes
here whatever the log driver, except what goes to a log router of the task (FireLens). A task of network mode awsvpc
does without an interface of its own. What was changed is said, and what cannot run here is refused by its name in
the task definition.`,
		Example: `  berth run web.json
  berth run --env LEVEL=debug job.json -- ./import --dry-run
  aws ecs describe-task-definition --task-definition web | berth run -`,
		Args: args(1, -1),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.runFile(cmd.Context(), &f, given[0], given[1:])
		},
	}
	cmd.Flags().StringArrayVarP(&f.env, "env", "e", nil, "set `NAME=VALUE` in the containers, or in --container; may be repeated")
	cmd.Flags().StringVar(&f.container, "container", "", "`name` of the container that --env and COMMAND are for")
	cmd.Flags().BoolVarP(&f.detach, "detach", "d", false, "print the task's id and leave it to the agent that runs here")
	cmd.Flags().BoolVar(&f.credentials, "credentials", false, "let the containers use AWS credentials of your own, in place of the task role")
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "show what an agent that was brought along logs")
	return cmd
}

// runTarget is the agent that runs the task, and its cluster.
type runTarget struct {
	client     *hostapi.Client
	api        *ecsCaller
	containerd config.Containerd
	// lender says whose credentials tasks get.
	lender string
	// failed has the error that ended an agent of our own; nil for one that is not.
	failed <-chan error
	// close ends an agent of our own.
	close func() error
}

// runFile is berth run.
func (a *app) runFile(ctx context.Context, f *runFlags, file string, command []string) (err error) {
	// A terminal that is closed, and a reader that goes away, are no reason to leave a task behind.
	ctx, stop := signal.NotifyContext(ctx, unix.SIGHUP)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer a.ignorePipe()()
	out := newRunPrinter(a, cancel)
	defer out.close()

	definition, notes, err := loadDefinition(a.In, file)
	if err != nil {
		return err
	}
	overrides, err := runOverrides(definition, f, command)
	if err != nil {
		return err
	}
	if err := refuseDefinition(definition, hostArchitecture()); err != nil {
		return err
	}
	signed := signedMembers(definition)
	if f.credentials {
		signed = append(signed, "--credentials")
	}
	target, err := a.runTarget(ctx, f, out, signed)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.close()) }()
	for _, n := range append(notes, adaptDefinition(definition, f.credentials, target.lender)...) {
		out.note(n)
	}
	task, err := target.start(ctx, definition, overrides)
	if err != nil {
		return err
	}
	if f.detach {
		return a.printIDs([]string{task}, nil)
	}
	out.containers(len(definition.ContainerDefinitions))
	follower := newRunFollower(target, task, out)
	view, err := follower.follow(ctx)
	if err != nil {
		return err
	}
	code, err := taskExit(&view)
	if errors.Is(err, errNeverRan) && ctx.Err() != nil {
		err = errInterrupted
	}
	out.result(&view, code)
	if code == ExitOK && err == nil {
		return nil
	}
	return &exitError{code, err}
}

// hostArchitecture is this host's processor, as task definitions call it.
func hostArchitecture() string {
	if runtime.GOARCH == "amd64" {
		return "X86_64"
	}
	return strings.ToUpper(runtime.GOARCH)
}

// runTarget finds the agent to run the task with, or brings one, which is lent AWS credentials if there is anything signed.
func (a *app) runTarget(ctx context.Context, f *runFlags, out *runPrinter, signed []string) (*runTarget, error) {
	target, err := a.localTarget(ctx, out)
	if target != nil || err != nil {
		return target, err
	}
	if f.detach {
		return nil, usage("--detach needs an agent of a local cluster that goes on: berth local, then berth agent")
	}
	level := "error"
	if f.verbose {
		level = "info"
	}
	host, err := a.startPrivate(ctx, level, signed)
	if err != nil {
		return nil, err
	}
	return host.target(), nil
}

// localTarget is the agent that answers here, if its cluster is a local one, and nil if a run has to bring its own.
func (a *app) localTarget(ctx context.Context, out *runPrinter) (*runTarget, error) {
	client := a.client()
	status, err := client.Status(ctx)
	if e, ok := errors.AsType[*hostapi.Error](err); ok && e.Code == hostapi.CodeUnreachable {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := client.Settings(ctx)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	for _, s := range list {
		settings[s.Name] = s.Value
	}
	if settings["ECS_BACKEND_HOST"] == "" || !isLocalCluster(ctx, ecsapi.Endpoint(settings["ECS_BACKEND_HOST"], status.Region, false)) {
		out.note("the agent here is in a cluster that is not this run's to use (" + status.Cluster + "): bringing another one beside it")
		return nil, nil
	}
	return &runTarget{
		client: client, close: func() error { return nil }, lender: "credentials that the local cluster makes up",
		api:        newECSCaller(ecsapi.Endpoint(settings["ECS_BACKEND_HOST"], status.Region, false), a.runSigner(status.Region)),
		containerd: config.Containerd{Address: settings["BERTH_CONTAINERD_ADDRESS"], Namespace: settings["BERTH_CONTAINERD_NAMESPACE"]},
	}, nil
}

// runSigner signs with the keys of this environment, if there are any: a local cluster may ask for them.
func (a *app) runSigner(region string) func(context.Context, *http.Request, []byte) error {
	c, _, err := config.Load(config.Options{Environ: a.env})
	if err != nil || c.AWS.AccessKeyID == "" {
		return nil
	}
	keys := awsapi.NewCredentials(awsapi.CredentialsConfig{
		AccessKeyID: c.AWS.AccessKeyID.Reveal(), SecretAccessKey: c.AWS.SecretAccessKey.Reveal(), SessionToken: c.AWS.SessionToken.Reveal(),
	})
	return awsapi.NewSigner(keys, region, ecs.SigningName).SignRequest
}

// isLocalCluster says whether berth local is at an endpoint. Only loopback is asked: what is at some other address is somebody's
// cluster, and a tunnel to Amazon ECS does not know the question.
func isLocalCluster(ctx context.Context, endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return false
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/_berth/health", http.NoBody)
	if err != nil {
		return false
	}
	answer, err := newECSCaller(endpoint, nil).http.Do(r)
	if err != nil {
		return false
	}
	return answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
}

// start registers the task definition and starts it on the agent's instance; the answer is the task's id.
func (t *runTarget) start(ctx context.Context, d *ecs.RegisterTaskDefinitionRequest, o *ecs.TaskOverride) (string, error) {
	status, err := t.joined(ctx)
	if err != nil {
		return "", err
	}
	registered, err := ecsCall[ecs.RegisterTaskDefinitionResponse](ctx, t.api, ecs.OpRegisterTaskDefinition, d)
	if err != nil {
		return "", err
	}
	started, err := ecsCall[ecs.StartTaskResponse](ctx, t.api, ecs.OpStartTask, &ecs.StartTaskRequest{
		Cluster: status.Cluster, ContainerInstances: []string{status.ContainerInstanceARN}, StartedBy: "berth run",
		TaskDefinition: registered.TaskDefinition.TaskDefinitionARN, Overrides: o,
	})
	if err != nil {
		return "", err
	}
	if len(started.Tasks) != 1 {
		return "", t.refused(ctx, &status, registered.TaskDefinition, started.Failures)
	}
	arn := started.Tasks[0].TaskARN
	return arn[strings.LastIndexByte(arn, '/')+1:], nil
}

// joined waits until the agent can be given tasks.
func (t *runTarget) joined(ctx context.Context) (hostapi.StatusView, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, joinPatience, errors.New("it takes too long"))
	defer cancel()
	ticker := time.NewTicker(joinTick)
	defer ticker.Stop()
	for {
		status, err := t.client.Status(ctx)
		if err != nil {
			return status, err
		}
		if status.ContainerInstanceARN != "" && slices.ContainsFunc(status.Connections, func(c hostapi.ConnectionView) bool {
			return c.Name == "acs" && c.Connected
		}) {
			return status, nil
		}
		select {
		case <-ticker.C:
		case err := <-t.failed:
			return status, err
		case <-ctx.Done():
			return status, fmt.Errorf("the agent is not connected to its cluster: %w", context.Cause(ctx))
		}
	}
}

// refused says why the cluster did not start a task: in ECS's word for it, and what that is about.
func (t *runTarget) refused(ctx context.Context, s *hostapi.StatusView, d *ecs.TaskDefinition, failures []ecs.Failure) error {
	if len(failures) == 0 {
		return errors.New("the task was not started, and the cluster does not say why")
	}
	reason := failures[0].Reason
	if reason != ecs.FailureAttribute {
		return fmt.Errorf("the task does not fit on this host: %s", strings.TrimSpace(exhausted(reason)+" "+failures[0].Detail))
	}
	hosts, err := ecsCall[ecs.DescribeContainerInstancesResponse](ctx, t.api, ecs.OpDescribeContainerInstances,
		&ecs.DescribeContainerInstancesRequest{Cluster: s.Cluster, ContainerInstances: []string{s.ContainerInstanceARN}})
	if err != nil || len(hosts.ContainerInstances) != 1 {
		return fmt.Errorf("the task cannot run on this host: %s", reason)
	}
	return fmt.Errorf("the task asks for what this agent does not have: %s", strings.Join(lacking(d, &hosts.ContainerInstances[0]), ", "))
}

// lacking are the attributes that a task definition asks for and an instance does not have.
func lacking(d *ecs.TaskDefinition, host *ecs.ContainerInstance) []string {
	var names []string
	for _, needed := range d.RequiresAttributes {
		if !slices.ContainsFunc(host.Attributes, func(a ecs.Attribute) bool { return a.Name == needed.Name }) {
			names = append(names, explained(needed.Name))
		}
	}
	return names
}
