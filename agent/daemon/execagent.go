package daemon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/durable"
	"github.com/berthd/berth/runtime/hostns"
)

// executeCommand is the managed agent of ECS Exec.
const executeCommand = "ExecuteCommandAgent"

// defaultSessions is how many sessions at once it allows where nobody says.
const defaultSessions = 2

// execAgent fits containers out with the agent of ECS Exec, spec/task-engine.md
// §5.17. Its binaries are AWS's own and are put on the host by the person who runs
// it; without them there is no ECS Exec.
type execAgent struct {
	// dir has bin/<version>, config and certs; logs gets a directory for each task.
	dir, logs string
	// dualStack says that the host has IPv6 alone.
	dualStack bool
	// mounts is where dir and logs can be written.
	mounts *hostns.Namespace
}

var _ engine.Agents = execAgent{}

// execAgentOf is the one that the settings describe.
func execAgentOf(c *config.Config) execAgent {
	return execAgent{dir: c.Paths.Exec, logs: c.Paths.ExecLogs, dualStack: c.IPCompatibility == "ipv6"}
}

// binaries are what a version of the agent has.
func (execAgent) binaries() []string {
	return []string{"amazon-ssm-agent", "ssm-agent-worker", "ssm-session-worker"}
}

// available says which managed agents can be run on this host.
func (a execAgent) available() []string {
	if _, err := a.version(); err != nil {
		return nil
	}
	for _, needed := range []string{"config", "certs/tls-ca-bundle.pem"} {
		if _, err := os.Stat(filepath.Join(a.dir, needed)); err != nil {
			return nil
		}
	}
	return []string{executeCommand}
}

// version is the directory of the newest version that is complete.
func (a execAgent) version() (string, error) {
	entries, err := os.ReadDir(filepath.Join(a.dir, "bin"))
	if err != nil {
		return "", fmt.Errorf("cannot find the agent of ECS Exec: %w", err)
	}
	slices.SortFunc(entries, func(x, y fs.DirEntry) int { return slices.Compare(numbers(y.Name()), numbers(x.Name())) })
	for _, e := range entries {
		dir := filepath.Join(a.dir, "bin", e.Name())
		incomplete := slices.ContainsFunc(a.binaries(), func(name string) bool {
			info, err := os.Stat(filepath.Join(dir, name))
			return err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0
		})
		if !incomplete && len(numbers(e.Name())) > 0 {
			return dir, nil
		}
	}
	return "", fmt.Errorf("cannot find the agent of ECS Exec: no complete version in %s", filepath.Join(a.dir, "bin"))
}

// numbers are those of a version, nil for what is none.
func numbers(version string) []int {
	var out []int
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil
		}
		out = append(out, n)
	}
	return out
}

// home is the agent's directory in a container. Its name follows from the
// container's id, and so is the same after a restart of ours.
func (execAgent) home(d *task.Definition, c *task.Container) string {
	sum := sha256.Sum256([]byte(executeCommand + "\x00" + engine.RuntimeID(d.ARN, c.Name)))
	return fmt.Sprintf("/ecs-execute-command-%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// Command starts the agent.
func (a execAgent) Command(d *task.Definition, c *task.Container, _ task.ManagedAgent) []string {
	return []string{path.Join(a.home(d, c), "amazon-ssm-agent")}
}

// Outfit writes the agent's configuration and answers with its mounts.
func (a execAgent) Outfit(_ context.Context, d *task.Definition, c *task.Container, agent task.ManagedAgent) (mounts []container.Mount, err error) {
	err = a.mounts.Do(func() (err error) {
		mounts, err = a.outfit(d, c, agent)
		return err
	})
	return mounts, err
}

func (a execAgent) outfit(d *task.Definition, c *task.Container, agent task.ManagedAgent) ([]container.Mount, error) {
	dir, err := a.version()
	if err != nil {
		return nil, err
	}
	settings, err := a.settings(d, agent)
	if err != nil {
		return nil, err
	}
	if settings, err = a.keep("amazon-ssm-agent-", ".json", []byte(settings)); err != nil {
		return nil, err
	}
	logging, err := a.keep("seelog-", ".xml", []byte(seelog))
	if err != nil {
		return nil, err
	}
	logs := filepath.Join(a.logs, d.ID, c.Name)
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the log directory of the agent of ECS Exec: %w", err)
	}
	home := a.home(d, c)
	read := func(from, to string) container.Mount {
		return container.Mount{Type: "bind", Source: from, Destination: to, Options: []string{"rbind", "ro"}}
	}
	mounts := []container.Mount{
		read(settings, path.Join(home, "configuration/amazon-ssm-agent.json")),
		read(logging, path.Join(home, "configuration/seelog.xml")),
		read(filepath.Join(a.dir, "certs/tls-ca-bundle.pem"), path.Join(home, "certs/amazon-ssm-agent.crt")),
		{Type: "bind", Source: logs, Destination: "/var/log/amazon/ssm", Options: []string{"rbind"}},
	}
	for _, name := range a.binaries() {
		mounts = append(mounts, read(filepath.Join(dir, name), path.Join(home, name)))
	}
	return mounts, nil
}

// Remove deletes what the agents of a task have logged.
func (a execAgent) Remove(_ context.Context, d *task.Definition) error {
	if err := a.mounts.Do(func() error { return os.RemoveAll(filepath.Join(a.logs, d.ID)) }); err != nil {
		return fmt.Errorf("cannot remove the logs of the agent of ECS Exec: %w", err)
	}
	return nil
}

// settings is the agent's configuration file.
func (a execAgent) settings(d *task.Definition, agent task.ManagedAgent) (string, error) {
	sessions, err := strconv.Atoi(agent.Properties["sessionLimit"])
	if err != nil || sessions <= 0 {
		sessions = defaultSessions
	}
	dual := a.dualStack || (d.ENI != nil && len(d.ENI.IPv4) == 0 && len(d.ENI.IPv6) > 0)
	text, err := json.MarshalIndent(map[string]any{
		"Mgs":   map[string]any{"Region": "", "Endpoint": "", "StopTimeoutMillis": 20000, "SessionWorkersLimit": sessions},
		"Agent": map[string]any{"Region": "", "OrchestrationRootDir": "", "ContainerMode": true, "UseDualStackEndpoint": dual},
	}, "", "    ")
	if err != nil {
		return "", fmt.Errorf("cannot encode the settings of the agent of ECS Exec: %w", err)
	}
	return string(text), nil
}

// keep writes a file that is named by its content, unless it is there.
func (a execAgent) keep(prefix, suffix string, content []byte) (string, error) {
	sum := sha256.Sum256(content)
	name := filepath.Join(a.dir, "config", prefix+base64.RawURLEncoding.EncodeToString(sum[:])+suffix)
	if have, err := os.ReadFile(name); err == nil && bytes.Equal(have, content) {
		return name, nil
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return "", fmt.Errorf("cannot write the settings of the agent of ECS Exec: %w", err)
	}
	_ = durable.Sweep(filepath.Dir(name), time.Now().Add(-time.Hour)) // What stays harms nobody.
	if err := durable.ReplaceWhole(name, content, 0o644); err != nil {
		return "", fmt.Errorf("cannot write the settings of the agent of ECS Exec: %w", err)
	}
	return name, nil
}

// seelog says what the agent logs, and where.
const seelog = `<seelog type="adaptive" mininterval="2000000" maxinterval="100000000" critmsgcount="500" minlevel="info">
    <outputs formatid="line">
        <rollingfile type="size" filename="/var/log/amazon/ssm/amazon-ssm-agent.log" maxsize="5000000" maxrolls="3"/>
        <filter levels="error,critical">
            <rollingfile type="size" filename="/var/log/amazon/ssm/errors.log" maxsize="1000000" maxrolls="3"/>
        </filter>
    </outputs>
    <formats>
        <format id="line" format="%Date %Time %LEVEL %Msg%n"/>
    </formats>
</seelog>
`
