package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/awsapi"
	"github.com/berthd/berth/agent/config"
)

// cloudInitResult is where cloud-init says what it ran with.
const cloudInitResult = "/var/lib/cloud/data/result.json"

// settle completes the settings with what instance metadata knows, and says
// which of them are not honoured.
func (a *agent) settle(ctx context.Context) error {
	c := &a.options.Config
	a.metadata = awsapi.NewMetadata(awsapi.MetadataConfig{
		Endpoint: c.AWS.MetadataEndpoint, Disabled: c.AWS.MetadataDisabled || c.External, Log: a.log.Named("metadata"),
	})
	if err := a.complete(ctx, cloudInitResult); err != nil {
		return err
	}
	a.sayIgnored()
	return nil
}

// sayIgnored names what was set and has no effect.
func (a *agent) sayIgnored() {
	c := &a.options.Config
	if ignored := c.NotHonoured(); len(ignored) > 0 {
		var names []string
		for _, s := range ignored {
			names = append(names, s.Name)
		}
		a.log.Warn("settings that this agent does not honour; berth config says why", zap.Strings("names", names))
	}
	if c.Explicit("ECS_AVAILABLE_LOGGING_DRIVERS") {
		missing := slices.DeleteFunc(slices.Clone(c.Capability.LoggingDrivers), func(d string) bool { return slices.Contains(builtLogDrivers(), d) })
		if len(missing) > 0 {
			a.log.Warn("log drivers of ECS_AVAILABLE_LOGGING_DRIVERS that this version does not have and does not advertise", zap.Strings("drivers", missing))
		}
	}
}

// complete asks instance metadata for what the settings leave open. Metadata that
// stumbles is no reason never to start again, nor to join a cluster that nobody
// meant; so its errors are not terminal ones.
func (a *agent) complete(ctx context.Context, cloudInit string) error {
	c := &a.options.Config
	available := a.metadata.Available(ctx)
	if available {
		if err := a.checkCloudInit(ctx, cloudInit); err != nil {
			return err
		}
		if err := a.reload(ctx); err != nil {
			return err
		}
	}
	if c.Region == "" {
		if !available && a.metadata.MayAppear() {
			return errors.New("no region is known yet: instance metadata does not answer, and AWS_DEFAULT_REGION is not set in " + config.DefaultFile)
		}
		return &TerminalError{Err: errors.New("no region is known: set AWS_DEFAULT_REGION in " + config.DefaultFile)}
	}
	if c.External { // Where metadata was asked for and is not there, its client said so.
		a.log.Info("going on without instance metadata", zap.String("region", c.Region), zap.String("cluster", c.Cluster))
	}
	return nil
}

// reload reads the settings again with what instance metadata says.
func (a *agent) reload(ctx context.Context) error {
	o, err := a.sources(ctx)
	if err != nil {
		return err
	}
	c, _, err := config.Load(o)
	if err != nil {
		return &TerminalError{Err: err}
	}
	a.options.Config = c
	return nil
}

// checkCloudInit refuses a host whose cloud-init did not find its data source,
// though it has user data: the settings that were to be written are missing, and
// the agent would join a cluster that nobody meant (spec/host.md §6.1). What
// cannot be checked is taken to be well.
func (a *agent) checkCloudInit(ctx context.Context, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil //nolint:nilerr // No cloud-init, nothing to check.
	}
	var result struct {
		V1 struct {
			Datasource string `json:"datasource"`
		} `json:"v1"`
	}
	if err := json.Unmarshal(text, &result); err != nil || result.V1.Datasource != "DataSourceNone" {
		return nil //nolint:nilerr // Not what cloud-init writes, or all is well.
	}
	if data, err := a.metadata.UserData(ctx); err != nil || data == "" {
		return nil //nolint:nilerr // Without user data there was nothing to write.
	}
	return &TerminalError{Err: fmt.Errorf(
		"cloud-init found no data source (%s) though this instance has user data, so its settings are missing: run cloud-init clean and reboot, or write %s by hand and remove %s",
		path, config.DefaultFile, path)}
}
