package resources

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/firelens"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
)

// Firelens is what log routers are told of the host. The zero value has none.
type Firelens struct {
	// Dir is the directory of the routers' directories; a router's is named after
	// its task. "" leaves routers out.
	Dir string
	// Cluster is the cluster's name where a task does not say; InstanceID is the
	// EC2 instance's, "" without.
	Cluster, InstanceID string
	// Async is ECS_ENABLE_FIRELENS_ASYNC.
	Async bool
}

// logRouter gives tasks a log router, spec/task-engine.md §5.11: its configuration
// and its socket are in a directory of the host,
//
//	<dir>/<task>/config/fluent.conf    written by us
//	<dir>/<task>/config/external.conf  the user's, from S3
//	<dir>/<task>/socket/fluent.sock    made by the router, used by the log process
//
// and the containers that log to it get the driver fluentd instead of
// awsfirelens. Secret options are in the router's environment; what is written
// only says where.
type logRouter struct {
	Firelens

	keys    Keys
	objects Objects
	log     *zap.Logger
}

var (
	_ part     = (*logRouter)(nil)
	_ finisher = (*logRouter)(nil)
)

func (l *logRouter) wants(d *task.Definition) bool { return firelens.Of(d) != nil }

// provision makes the directories and fetches the user's own configuration.
func (l *logRouter) provision(ctx context.Context, t *Task) (outfits, error) {
	d := t.Definition
	router := firelens.Of(d)
	options, err := firelens.ParseOptions(router.Firelens)
	if err != nil {
		return nil, fmt.Errorf("resource cannot be initialized for task %s: unable to initialize firelens resource: error parsing firelens options: %w", d.ARN, err)
	}
	paths, ok := firelens.PathsOf(router.Firelens.Type)
	if !ok {
		return nil, fmt.Errorf("invalid firelens configuration type: %s", router.Firelens.Type)
	}
	if text := router.Firelens.Options[firelens.OptMetadata]; text != "" {
		if _, err := strconv.ParseBool(text); err != nil {
			l.log.Warn("records of the log router get the names of cluster and task: the option that could say no cannot be read",
				zap.String("task", d.ID), zap.String("option", firelens.OptMetadata), zap.String("value", text))
		}
	}
	files := routerFiles{l.Dir, d.ID}
	if err := files.make(router.Spec.Process.User); err != nil {
		return nil, fmt.Errorf("unable to initialize resource directory %s: %w", files.dir(), err)
	}
	all := outfits{}
	o := all.of(router.Name)
	bind := func(source, destination string) {
		o.Mounts = append(o.Mounts, container.Mount{
			Type: "bind", Source: source, Destination: destination, Options: []string{"rbind", "rprivate"},
		})
	}
	bind(files.config(), paths.Config)
	bind(files.sockets(), firelens.SocketDir)
	if options.S3 != "" {
		if err := l.fetch(ctx, d, options.S3, files); err != nil {
			return nil, fmt.Errorf("unable to download firelens s3 config file: %w", err)
		}
		bind(files.external(), paths.External)
	}
	if router.Firelens.Type == firelens.Fluentd {
		o.Env = append(o.Env, "FLUENT_UID=0")
	}
	return all, nil
}

// fetch reads the user's configuration with the execution role. One that is there
// is whole, and has been given to the router perhaps: it stays.
func (l *logRouter) fetch(ctx context.Context, d *task.Definition, arn string, files routerFiles) error {
	if files.has(files.external()) {
		return nil
	}
	m := objectARN.FindStringSubmatch(arn)
	if m == nil {
		return fmt.Errorf("invalid s3 arn: %s", arn)
	}
	if l.objects == nil {
		return errors.New("this agent has no access to S3")
	}
	keys, err := executionKeys(ctx, l.keys, d)
	if err != nil {
		return err
	}
	bucket, key := m[2], m[3]
	region, err := l.objects.BucketRegion(ctx, keys, bucket)
	if err != nil {
		return fmt.Errorf("unable to initialize s3 client for bucket %s, error: %w", bucket, err)
	}
	data, err := l.objects.Object(ctx, keys, region, bucket, key)
	if err != nil {
		return fmt.Errorf("unable to download s3 config %s from bucket %s, error: %w", key, bucket, err)
	}
	return files.write(files.external(), data)
}

// finish writes the configuration, now that it is known which options are
// secret, and turns the log driver awsfirelens into fluentd.
func (l *logRouter) finish(_ context.Context, t *Task, all outfits) error {
	d := t.Definition
	router := firelens.Of(d)
	files := routerFiles{l.Dir, d.ID}
	secrets := map[string][]string{}
	for i := range d.Containers {
		c := &d.Containers[i]
		if c.Log.Driver != firelens.LogDriver {
			continue
		}
		o := all.of(c.Name)
		for _, option := range slices.Sorted(maps.Keys(o.logSecrets)) {
			secrets[c.Name] = append(secrets[c.Name], option)
			all.of(router.Name).SecretEnv = append(all.of(router.Name).SecretEnv, firelens.Variable(option, i)+"="+o.logSecrets[option])
		}
		o.logSecrets = nil
		o.Log = l.driver(d, c, files)
		o.Env = append(o.Env, reach(t, router)...)
	}
	text, err := firelens.Router{
		Task: d, Cluster: l.cluster(d), InstanceID: l.InstanceID, Secrets: secrets,
	}.Config()
	if err == nil {
		err = files.write(files.config(), []byte(text))
	}
	if err != nil {
		return fmt.Errorf("unable to generate firelens config file: %w", err)
	}
	return nil
}

// cluster is the name of a task's cluster.
func (l *logRouter) cluster(d *task.Definition) string {
	if d.ClusterARN == "" {
		return l.Cluster
	}
	return d.ClusterARN[strings.LastIndexByte(d.ClusterARN, '/')+1:]
}

// driver is what becomes of a container's log driver.
func (l *logRouter) driver(d *task.Definition, c *task.Container, files routerFiles) *task.Log {
	options := map[string]string{
		"tag":                          firelens.Tag(d, c.Name),
		"fluentd-address":              "unix://" + files.socket(),
		"fluentd-sub-second-precision": "true",
		"fluentd-async":                strconv.FormatBool(l.Async),
	}
	for from, to := range firelens.Delivery() {
		if value, there := c.Log.Options[from]; there {
			options[to] = value
		}
	}
	return &task.Log{Driver: "fluentd", Options: options}
}

// reach are the variables that tell a container where it can send events itself.
func reach(t *Task, router *task.Container) []string {
	host := ""
	switch t.Definition.Network {
	case task.NetworkAWSVPC:
		host = "127.0.0.1"
	case task.NetworkBridge:
		switch a := t.Endpoints[router.Name].Addresses; {
		case a.IPv4.IsValid():
			host = a.IPv4.String()
		case a.IPv6.IsValid():
			host = a.IPv6.String()
		}
	case task.NetworkHost, task.NetworkNone:
	}
	if host == "" {
		return nil
	}
	return []string{"FLUENT_HOST=" + host, "FLUENT_PORT=" + strconv.Itoa(firelens.Port)}
}

// release has nothing to give back.
func (l *logRouter) release(context.Context, *task.Definition) error { return nil }

// remove deletes the router's directory.
func (l *logRouter) remove(_ context.Context, d *task.Definition) error {
	return routerFiles{l.Dir, d.ID}.remove()
}
