package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/awsapi"
	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/daemon"
	"github.com/berthd/berth/agent/update"
)

// findInstall is the install that this program is a version of.
func findInstall() (*update.Install, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find this program: %w", err)
	}
	in, _, err := update.FindInstall(self)
	if err != nil {
		return nil, fmt.Errorf("cannot update %s: %w", self, err)
	}
	return in, nil
}

// updater makes updates as the settings say.
func (a *app) updater(c *config.Config, in *update.Install) (*update.Updater, *update.State, error) {
	data := c.Paths.Data
	if data == "" { // The settings could not be read.
		data = config.DefaultDataDir
	}
	state, err := update.OpenState(filepath.Join(data, "update"))
	if err != nil {
		return nil, nil, err
	}
	conf := update.Config{Install: in, State: state, Now: a.now}
	if c.Agent.UpdateSource != "" {
		source, err := releases(c)
		if err != nil {
			return nil, nil, err
		}
		root := c.Agent.UpdateRoot
		if root == "" {
			root = in.RootKey()
		}
		conf.Repository = update.NewRepository(update.RepositoryConfig{
			Source: source, RootKey: root, Dir: filepath.Join(data, "update", "tuf"), Platform: runtime.GOOS + "-" + runtime.GOARCH, Now: a.now,
		})
	}
	return update.New(conf), state, nil
}

// releases is the source, asked as the settings have it.
func releases(c *config.Config) (update.Source, error) {
	roots, err := awsapi.Roots(c.AWS.CABundle)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // It is documented to be one.
	transport.Proxy, transport.ResponseHeaderTimeout = daemon.Proxy(c), 30*time.Second
	if roots != nil {
		transport.TLSClientConfig.RootCAs = roots
	}
	return update.ParseSource(c.Agent.UpdateSource, update.SourceConfig{
		HTTP: &http.Client{Transport: transport},
		Object: func(ctx context.Context, bucket, key string, limit int64) ([]byte, error) {
			metadata := awsapi.NewMetadata(awsapi.MetadataConfig{Endpoint: c.AWS.MetadataEndpoint, Disabled: c.AWS.MetadataDisabled || c.External})
			region := c.Region
			if region == "" {
				if region, err = metadata.Region(ctx); err != nil {
					return nil, fmt.Errorf("no region is known (AWS_DEFAULT_REGION): %w", err)
				}
			}
			services := awsapi.NewServices(awsapi.ServicesConfig{
				Credentials: daemon.HostCredentials(c, metadata), Region: region, Endpoint: c.AWS.Endpoints.Of, FIPS: c.AWS.FIPS,
				DualStack: c.AWS.DualStack || c.IPCompatibility == "ipv6", Roots: roots, Proxy: daemon.Proxy(c),
			})
			defer services.Close()
			return services.HostObject(ctx, bucket, key, limit)
		},
	})
}

// prepareUpdates gives the agent what it needs to be updated, when a package installed it. Containers then remember a path that outlives
// this version. That it cannot be updated is no reason for the agent not to run.
func (a *app) prepareUpdates(o *daemon.Options) {
	in, err := findInstall()
	if err != nil {
		return // A program that somebody built.
	}
	if current, err := in.Current(); err == nil && current != "" {
		o.Init[0] = in.CurrentProgram()
	}
	u, state, err := a.updater(&o.Config, in)
	if err != nil {
		o.Log.Error("this agent cannot be updated", zap.Error(err))
		return
	}
	o.Updater = u
	// Without a source there is nothing to update to: ECS is refused, unless somebody asked for updates and has to hear what is missing.
	if c := &o.Config; c.Agent.UpdatesEnabled && (c.Agent.UpdateSource != "" || c.Explicit("ECS_UPDATES_ENABLED")) {
		o.Updates = &orderedUpdates{Updater: u, State: state, file: o.ConfigFile, env: a.env}
	}
}

// orderedUpdates carries out what ECS orders. Releases are fetched by a process of their own, so that the agent does not keep the memory
// that this takes.
type orderedUpdates struct {
	*update.Updater
	*update.State

	file string
	env  []string
}

var _ daemon.UpdateOrders = (*orderedUpdates)(nil)

// Stage runs berth update --stage-only.
func (o *orderedUpdates) Stage(ctx context.Context, signature string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find this program: %w", err)
	}
	args := []string{"update", "--stage-only", "--json", "--sha256", signature}
	if o.file != "" {
		args = append(args, "--config", o.file)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = o.env
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		var problem struct {
			Error struct {
				Message string `json:"message"`
			} `json:"error"`
		}
		if json.Unmarshal(said.Bytes(), &problem) == nil && problem.Error.Message != "" {
			err = errors.New(problem.Error.Message)
		} else if text := strings.TrimSpace(said.String()); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return "", err
	}
	var staged update.Release
	if err := json.Unmarshal(out.Bytes(), &staged); err != nil {
		return "", fmt.Errorf("cannot read what was staged: %w", err)
	}
	return staged.Version, nil
}
