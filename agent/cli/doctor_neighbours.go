package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/berthd/berth/agent/daemon"
)

// checkReserved looks whether an outgoing connection may take the ports at which containers and hosts of ECS expect the agent: it
// would keep the agent from listening there.
func checkReserved(_ context.Context, p *patient) finding {
	const mend = "add 51678-51679 to net.ipv4.ip_local_reserved_ports in /etc/sysctl.d and run sysctl --system"
	local, err := p.read("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return warn("", "cannot read the range of local ports: %s", err)
	}
	reserved, err := p.read("/proc/sys/net/ipv4/ip_local_reserved_ports")
	if err != nil {
		return warn("", "cannot read the reserved ports: %s", err)
	}
	var low, high int
	if _, err := fmt.Sscan(local, &low, &high); err != nil {
		return warn("", "cannot read the range of local ports %q: %s", strings.TrimSpace(local), err)
	}
	for _, port := range []int{51678, 51679} {
		if port >= low && port <= high && !inPorts(strings.TrimSpace(reserved), port) {
			return warn(mend, "any outgoing connection may take the agent's port %d (local ports are %d to %d)", port, low, high)
		}
	}
	return pass("no connection takes 51678 and 51679")
}

// inPorts says whether a list of ports and ranges, "80,8000-8080", has one.
func inPorts(list string, port int) bool {
	for part := range strings.SplitSeq(list, ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		low, err := strconv.Atoi(first)
		if err != nil {
			continue
		}
		if high, err := strconv.Atoi(last); err == nil && port >= low && port <= high {
			return true
		}
	}
	return false
}

// checkOthers looks for another ECS agent, now and after the next boot: two would both run the tasks of the cluster.
func checkOthers(ctx context.Context, p *patient) finding {
	const mend = "drain the host, then: systemctl disable --now ecs"
	if err := daemon.FindECSAgent(ctx, &p.config); errors.Is(err, daemon.ErrECSAgent) {
		what, _, _ := strings.Cut(err.Error(), ". ")
		return fail("drain this host and stop the ECS agent: systemctl start berth says how", "%s", what)
	}
	if _, err := os.Lstat(p.path("/etc/systemd/system/multi-user.target.wants/ecs.service")); err == nil {
		return fail(mend, "the ECS agent (ecs.service) starts at boot, too")
	}
	commands, err := filepath.Glob(p.path("/proc/[0-9]*/cmdline"))
	if err != nil {
		return warn("", "cannot look at processes: %s", err)
	}
	for _, file := range commands {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // It has ended meanwhile.
		}
		program, _, _ := strings.Cut(string(text), "\x00")
		if name := filepath.Base(program); name == "amazon-ecs-init" || name == "amazon-ecs-agent" {
			return fail(mend, "%s runs as process %s", name, filepath.Base(filepath.Dir(file)))
		}
	}
	return pass("no other ECS agent runs here or starts at boot")
}
