package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// patience is how long a program may take to begin, and a task to do what is
// waited for.
const patience = 30 * time.Second

// program is a running child.
type program struct {
	cmd    *exec.Cmd
	log    string
	exited chan struct{} // closed once it has been reaped
}

// start starts a program whose output goes to a file.
func start(log string, env []string, name string, args ...string) (*program, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }() // The program has its own.
	cmd := exec.CommandContext(context.Background(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	p := &program{cmd: cmd, log: log, exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		_ = cmd.Wait() // However it ended, it has.
	}()
	return p, nil
}

// end sends a signal and waits until the program has ended.
func (p *program) end(ctx context.Context, sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lastWords are the end of what the program wrote.
func (p *program) lastWords() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
}

// startContainerd starts a containerd without the plugins that no task needs.
func startContainerd(ctx context.Context, dir, disk string) (*program, string, error) {
	address := filepath.Join(dir, "c.sock")
	config := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = %q
`, filepath.Join(disk, "containerd"), filepath.Join(dir, "state"), address)
	file := filepath.Join(dir, "containerd.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, "", err
	}
	p, err := start(filepath.Join(dir, "containerd.log"), nil, "containerd", "--config", file)
	if err != nil {
		return nil, "", err
	}
	return p, address, await(ctx, "containerd to listen", func() (bool, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", address)
		if err != nil {
			return false, nil //nolint:nilerr // Not yet.
		}
		return true, conn.Close()
	})
}

// agent starts agents and hears from them what systemd would.
type agent struct {
	dir, berth string
	env        []string
	notify     *net.UnixConn
	now        *program
}

// newAgent prepares the settings of an agent; start starts it.
func newAgent(dir, disk, berth, endpoint, containerd string) (*agent, error) {
	socket := filepath.Join(dir, "notify.sock")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	return &agent{dir: dir, berth: berth, notify: conn, env: []string{
		"NOTIFY_SOCKET=" + socket, "HOME=" + dir,
		"AWS_ACCESS_KEY_ID=berth", "AWS_SECRET_ACCESS_KEY=local-secret", "AWS_DEFAULT_REGION=eu-west-1", "AWS_EC2_METADATA_DISABLED=true",
		"ECS_CLUSTER=" + cluster, "ECS_BACKEND_HOST=" + endpoint, "ECS_DATADIR=" + filepath.Join(disk, "data"),
		"ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=2s", "ECS_ENABLE_RUNTIME_STATS=true", "ECS_AUDIT_LOGFILE_DISABLED=true",
		"BERTH_RUN_DIR=" + dir, "BERTH_CONTAINERD_ADDRESS=" + containerd, "BERTH_CONTAINERD_NAMESPACE=berth",
		"BERTH_SOCKET=" + filepath.Join(dir, "berth.sock"), "BERTH_LOG_SOCKET=" + filepath.Join(dir, "logs.sock"),
	}}, nil
}

// start starts the agent and returns once it says that it has adopted its tasks.
func (a *agent) start(ctx context.Context) error {
	p, err := start(filepath.Join(a.dir, "agent.log"), a.env, a.berth, "agent")
	if err != nil {
		return err
	}
	a.now = p
	if err := a.notify.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for ctx.Err() == nil {
		n, err := a.notify.Read(buf)
		if err != nil {
			return fmt.Errorf("the agent does not become ready: %w", err)
		}
		if strings.Contains(string(buf[:n]), "READY=1") {
			return nil
		}
	}
	return context.Cause(ctx)
}

// await asks until the answer is yes, every two milliseconds.
func await(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("not within "+patience.String()))
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if err != nil || ok {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("cannot wait for %s: %w", what, context.Cause(ctx))
		}
	}
}
