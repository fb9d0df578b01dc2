package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/agent/config"
)

// ErrECSAgent means that the ECS agent, or tasks that it started, are on this host.
// Two agents would register the host twice, and give out its memory and ports
// twice.
var ErrECSAgent = errors.New("an ECS agent is in the way")

// neighbourhood is where an ECS agent would be.
type neighbourhood struct {
	introspection string // URL of its introspection API
	docker        string // Docker's socket
}

// FindECSAgent says whether there is an ECS agent beside an agent with these
// settings, and what to do about it: the error matches ErrECSAgent. An agent that
// does not want the ECS agent's port is told nothing: it was set up to be a
// second one. Docker in another network namespace is in nobody's way.
func FindECSAgent(ctx context.Context, c *config.Config) error {
	if !strings.HasSuffix(c.Metadata.Introspection, ":51678") {
		return nil
	}
	return neighbourhood{introspection: "http://127.0.0.1:51678", docker: "/var/run/docker.sock"}.look(ctx)
}

func (n neighbourhood) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Second, errors.New("it does not answer"))
	defer cancel()
	// Who does not answer is not alive, and what is not alive takes nothing.
	if a, ok := n.agent(ctx); ok {
		return fmt.Errorf(`%w: %s runs here, for cluster %s. Drain this host first, and let its tasks end:
  aws ecs update-container-instances-state --cluster %[3]s --container-instances %s --status DRAINING
  aws ecs wait tasks-stopped --cluster %[3]s --tasks $(aws ecs list-tasks --cluster %[3]s --container-instance %[4]s --query taskArns --output text)
then stop the ECS agent for good, and start Berth:
  systemctl disable --now ecs && systemctl start berth`, ErrECSAgent, a.Version, a.Cluster, a.ContainerInstanceArn)
	}
	if names := n.tasks(ctx); len(names) > 0 {
		return fmt.Errorf(`%w: its tasks still run in Docker, and nobody attends to them: %s. Start the ECS agent again and drain this host, or end them:
  docker stop $(docker ps --quiet --filter label=com.amazonaws.ecs.task-arn)
then: systemctl start berth`, ErrECSAgent, strings.Join(names, ", "))
	}
	return nil
}

// ecsAgent is what the ECS agent says of itself.
type ecsAgent struct{ Cluster, ContainerInstanceArn, Version string }

func (n neighbourhood) agent(ctx context.Context) (a ecsAgent, ok bool) {
	if err := fetch(ctx, http.DefaultClient, n.introspection+"/v1/metadata", &a); err != nil {
		return a, false
	}
	if a.ContainerInstanceArn == "" {
		a.ContainerInstanceArn = "ARN"
	}
	return a, strings.HasPrefix(a.Version, "Amazon ECS Agent")
}

// tasks names the running containers of ECS tasks that Docker has in our network.
func (n neighbourhood) tasks(ctx context.Context) (names []string) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", n.docker)
		if err != nil {
			return nil, err
		}
		if err := sharesNetwork(conn); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return conn, nil
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	filters := url.QueryEscape(`{"label":["com.amazonaws.ecs.task-arn"],"status":["running"]}`)
	var containers []struct{ Names []string }
	if err := fetch(ctx, client, "http://docker/containers/json?filters="+filters, &containers); err != nil {
		return nil
	}
	for _, c := range containers {
		names = append(names, strings.TrimPrefix(strings.Join(c.Names, " "), "/"))
	}
	return names
}

// sharesNetwork fails unless who listens at the other end of a unix socket is in
// our network namespace.
func sharesNetwork(conn net.Conn) error {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return fmt.Errorf("cannot ask who listens: %w", err)
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return fmt.Errorf("cannot ask who listens: %w", err)
	}
	if failed != nil {
		return fmt.Errorf("cannot ask who listens: %w", failed)
	}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return fmt.Errorf("cannot read our network namespace: %w", err)
	}
	// A socket that systemd listens on for Docker is systemd's: of the host's network too.
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", peer.Pid))
	if err != nil {
		return fmt.Errorf("cannot read Docker's network namespace: %w", err)
	}
	if own != theirs {
		return errors.New("it is in another network")
	}
	return nil
}

// fetch reads a small JSON document.
func fetch(ctx context.Context, client *http.Client, from string, into any) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, http.NoBody)
	if err != nil {
		return fmt.Errorf("cannot ask: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("cannot ask: %w", err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, 1<<20)).Decode(into); err != nil {
		return fmt.Errorf("cannot read the answer: %w", err)
	}
	return nil
}
