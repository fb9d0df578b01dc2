package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/berthd/berth/agent/wire/ecs"
	"github.com/berthd/berth/runtime/backoff"
)

// DefaultCluster is joined when none is configured, and made when it is missing.
const DefaultCluster = "default"

// Times of a registration, spec/control-plane.md §8.
const (
	registerFor   = time.Hour
	registerFirst = 3 * time.Second
	registerLast  = 192 * time.Second
)

// Registrar is the part of the ECS API that Join needs.
type Registrar interface {
	RegisterContainerInstance(ctx context.Context, r *ecs.RegisterContainerInstanceRequest) (*ecs.RegisterContainerInstanceResponse, error)
	CreateCluster(ctx context.Context, r *ecs.CreateClusterRequest) (*ecs.CreateClusterResponse, error)
}

// Document gives the instance identity document and its signature, both as they
// are served. An error stands for a host without them.
type Document interface {
	Document(ctx context.Context) (string, error)
	Signature(ctx context.Context) (string, error)
}

// Identity is who this host is to ECS. It is what has to survive a restart.
type Identity struct {
	// ContainerInstanceARN is the host's, "" before the first registration.
	ContainerInstanceARN string
	// Cluster is the cluster as it was configured, never empty once registered.
	Cluster string
	// AvailabilityZone is what ECS says, EC2InstanceID what the host says.
	AvailabilityZone, EC2InstanceID string
}

// Restore decides what a saved identity is worth (spec/control-plane.md §1.9).
// On another EC2 instance than it was saved on (an image was made of a host)
// nothing saved is: discard tells the caller to forget its tasks too. A cluster
// other than the saved one is a TerminalError: a host does not change clusters.
func Restore(saved Identity, cluster, ec2InstanceID string) (keep Identity, discard bool, err error) {
	if saved.EC2InstanceID != "" && ec2InstanceID != "" && saved.EC2InstanceID != ec2InstanceID {
		return Identity{}, true, nil
	}
	if cluster == "" {
		cluster = DefaultCluster
	}
	if saved.Cluster != "" && saved.Cluster != cluster {
		return Identity{}, false, &TerminalError{fmt.Errorf(
			"this host is registered in cluster %q and configured for %q: put ECS_CLUSTER back, or deregister the host and remove the data directory",
			saved.Cluster, cluster)}
	}
	return saved, false, nil
}

// JoinConfig is what Join needs.
type JoinConfig struct {
	API Registrar
	// Document is nil where there is none: off EC2, or when it is not to be sent.
	Document Document
	// Cluster is as configured, "" for none.
	Cluster string
	Host    Host
	Log     *zap.Logger
}

// Join registers this host, for the first time or, with a saved identity that
// has an ARN, again. It tries for up to an hour while the service is in trouble.
// The caller saves the Identity before it goes on. ExitCode says what to do
// about an error.
func Join(ctx context.Context, cfg JoinConfig, saved Identity) (Identity, error) {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	request, err := cfg.request(ctx, saved)
	if err != nil {
		return Identity{}, err
	}
	instance, err := cfg.register(ctx, request)
	if err != nil && cfg.Cluster == "" && clusterNotFound(err) {
		cfg.Log.Info("cluster does not exist and is made", zap.String("cluster", DefaultCluster))
		if _, err := cfg.API.CreateCluster(ctx, &ecs.CreateClusterRequest{ClusterName: DefaultCluster}); err != nil {
			return Identity{}, fmt.Errorf("cannot create cluster %s: %w", DefaultCluster, err)
		}
		instance, err = cfg.register(ctx, request)
	}
	if err != nil {
		return Identity{}, classify(err, saved)
	}
	if wrong := mismatch(request.Attributes, instance.Attributes); wrong != "" {
		return Identity{}, &TerminalError{fmt.Errorf("cannot register: ECS did not take over the attributes %s", wrong)}
	}
	out := Identity{
		ContainerInstanceARN: instance.ContainerInstanceARN,
		Cluster:              request.Cluster,
		EC2InstanceID:        cfg.Host.EC2InstanceID,
	}
	if saved.ContainerInstanceARN != "" {
		out.ContainerInstanceARN = saved.ContainerInstanceARN
	}
	if out.ContainerInstanceARN == "" {
		return Identity{}, errors.New("cannot register: ECS answered without a container instance ARN")
	}
	for _, a := range instance.Attributes {
		if a.Name == "ecs.availability-zone" {
			out.AvailabilityZone = a.Value
		}
	}
	return out, nil
}

// Status is what ECS holds of this host, ACTIVE or DRAINING, which is registered
// as saved says: ECS answers a registration that it has with the host as it is.
// It asks once.
func Status(ctx context.Context, cfg JoinConfig, saved Identity) (string, error) {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	request, err := cfg.request(ctx, saved)
	if err != nil {
		return "", err
	}
	response, err := cfg.API.RegisterContainerInstance(ctx, request)
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot ask for this host's status: %w", err)
	case response.ContainerInstance == nil || response.ContainerInstance.Status == "":
		return "", errors.New("ECS does not say this host's status")
	}
	return response.ContainerInstance.Status, nil
}

// request is the registration, §1.5.
func (cfg *JoinConfig) request(ctx context.Context, saved Identity) (*ecs.RegisterContainerInstanceRequest, error) {
	resources, err := cfg.Host.resources()
	if err != nil {
		return nil, fmt.Errorf("cannot register: %w", err)
	}
	cluster := cfg.Cluster
	if cluster == "" {
		cluster = DefaultCluster
	}
	document, signature := cfg.document(ctx)
	return &ecs.RegisterContainerInstanceRequest{
		Cluster:                           cluster,
		ContainerInstanceARN:              saved.ContainerInstanceARN,
		InstanceIdentityDocument:          document,
		InstanceIdentityDocumentSignature: signature,
		TotalResources:                    resources,
		PlatformDevices:                   cfg.Host.platformDevices(),
		Attributes:                        cfg.Host.attributes(saved.ContainerInstanceARN == ""),
		Tags:                              cfg.Host.tags(),
		ClientToken:                       uuid.NewString(),
	}, nil
}

// document is the identity document and its signature, empty where there is
// none.
func (cfg *JoinConfig) document(ctx context.Context) (document, signature string) {
	if cfg.Document == nil {
		return "", ""
	}
	document, err := cfg.Document.Document(ctx)
	if err != nil {
		cfg.Log.Info("registering without an instance identity document", zap.Error(err))
		return "", ""
	}
	if signature, err = cfg.Document.Signature(ctx); err != nil {
		cfg.Log.Warn("registering without a signature of the instance identity document", zap.Error(err))
		return document, ""
	}
	return document, signature
}

// register calls until the service answers something that is not trouble.
func (cfg *JoinConfig) register(ctx context.Context, r *ecs.RegisterContainerInstanceRequest) (*ecs.ContainerInstance, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, registerFor, errors.New("no registration within an hour"))
	defer cancel()
	ladder := backoff.Ladder{First: registerFirst, Last: registerLast, Factor: 2, Jitter: 0.2}
	for {
		response, err := cfg.API.RegisterContainerInstance(ctx, r)
		switch {
		case err == nil && response.ContainerInstance != nil:
			return response.ContainerInstance, nil
		case err == nil:
			return nil, errors.New("ECS answered without a container instance")
		case !transient(err):
			return nil, err
		}
		delay := ladder.Next()
		cfg.Log.Warn("cannot register yet", zap.Duration("wait", delay), zap.Error(err))
		if !backoff.Wait(ctx, delay) {
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

func clusterNotFound(err error) bool {
	return isType(err, ecs.ErrTypeClusterNotFound) || strings.Contains(err.Error(), "Cluster not found.")
}

// classify says whether starting again can mend err, §1.8.
func classify(err error, saved Identity) error {
	err = fmt.Errorf("cannot register: %w", err)
	if saved.ContainerInstanceARN != "" && isType(err, ecs.ErrTypeClient) {
		err = fmt.Errorf("%w (this host is %s; if that was deregistered, stop its tasks and remove the data directory, and it registers as a new one)",
			err, saved.ContainerInstanceARN)
	}
	if isType(err, ecs.ErrTypeInvalidParameter) || isType(err, ecs.ErrTypeClient) ||
		strings.Contains(err.Error(), "Container instance type changes are not supported.") {
		return &TerminalError{err}
	}
	return err
}
