package ecsapi

import (
	"context"

	"github.com/berthd/berth/agent/wire/ecs"
)

// RegisterContainerInstance registers this host.
func (c *Client) RegisterContainerInstance(ctx context.Context, r *ecs.RegisterContainerInstanceRequest) (*ecs.RegisterContainerInstanceResponse, error) {
	return call[ecs.RegisterContainerInstanceResponse](ctx, c, ecs.OpRegisterContainerInstance, r)
}

// CreateCluster makes a cluster.
func (c *Client) CreateCluster(ctx context.Context, r *ecs.CreateClusterRequest) (*ecs.CreateClusterResponse, error) {
	return call[ecs.CreateClusterResponse](ctx, c, ecs.OpCreateCluster, r)
}

// DiscoverPollEndpoint asks where the websockets are.
func (c *Client) DiscoverPollEndpoint(ctx context.Context, r *ecs.DiscoverPollEndpointRequest) (*ecs.DiscoverPollEndpointResponse, error) {
	return call[ecs.DiscoverPollEndpointResponse](ctx, c, ecs.OpDiscoverPollEndpoint, r)
}

// SubmitTaskStateChange reports a task.
func (c *Client) SubmitTaskStateChange(ctx context.Context, r *ecs.SubmitTaskStateChangeRequest) error {
	_, err := call[ecs.SubmitTaskStateChangeResponse](ctx, c, ecs.OpSubmitTaskStateChange, r)
	return err
}

// SubmitAttachmentStateChanges reports attachments.
func (c *Client) SubmitAttachmentStateChanges(ctx context.Context, r *ecs.SubmitAttachmentStateChangesRequest) error {
	_, err := call[ecs.SubmitAttachmentStateChangesResponse](ctx, c, ecs.OpSubmitAttachmentStateChanges, r)
	return err
}

// UpdateContainerInstancesState sets hosts ACTIVE or DRAINING.
func (c *Client) UpdateContainerInstancesState(ctx context.Context, r *ecs.UpdateContainerInstancesStateRequest) (*ecs.UpdateContainerInstancesStateResponse, error) {
	return call[ecs.UpdateContainerInstancesStateResponse](ctx, c, ecs.OpUpdateContainerInstancesState, r)
}

// ListTagsForResource asks for the tags of a task or a host.
func (c *Client) ListTagsForResource(ctx context.Context, r *ecs.ListTagsForResourceRequest) (*ecs.ListTagsForResourceResponse, error) {
	return call[ecs.ListTagsForResourceResponse](ctx, c, ecs.OpListTagsForResource, r)
}

// GetTaskProtection asks for the scale-in protection of tasks.
func (c *Client) GetTaskProtection(ctx context.Context, r *ecs.GetTaskProtectionRequest) (*ecs.GetTaskProtectionResponse, error) {
	return call[ecs.GetTaskProtectionResponse](ctx, c, ecs.OpGetTaskProtection, r)
}

// UpdateTaskProtection sets or clears it.
func (c *Client) UpdateTaskProtection(ctx context.Context, r *ecs.UpdateTaskProtectionRequest) (*ecs.UpdateTaskProtectionResponse, error) {
	return call[ecs.UpdateTaskProtectionResponse](ctx, c, ecs.OpUpdateTaskProtection, r)
}
