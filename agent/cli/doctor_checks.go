package cli

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	units "github.com/docker/go-units"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/ipam"
)

// checkWait is how long a check waits for whatever it asks.
const checkWait = 3 * time.Second

func checkRoot(_ context.Context, p *patient) finding {
	if p.uid != 0 {
		return warn("sudo berth doctor", "not root: some checks see less")
	}
	return pass("root")
}

func checkSettings(_ context.Context, p *patient) finding {
	c, warnings, err := config.Load(config.Options{File: p.file, Environ: p.env})
	path := p.file
	if path == "" {
		path = config.DefaultFile
	}
	switch {
	case errors.Is(err, config.ErrInvalid):
		return fail("edit it, then: berth config --check", "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	case err != nil:
		return warn("sudo berth doctor", "%s", err)
	case len(warnings) > 0:
		return warn("edit it, then: berth config --check", "%d warnings, first: %s", len(warnings), warnings[0])
	}
	if off := c.NotHonoured(); len(off) > 0 {
		names := make([]string, len(off))
		for i, s := range off {
			names[i] = s.Name
		}
		return warn("remove them from "+path, "not honoured: %s (%s)", strings.Join(names, ", "), off[0].Reason)
	}
	return pass("cluster %s", c.Cluster)
}

func checkGroup(_ context.Context, p *patient) finding {
	text, err := p.read("/etc/group")
	if err != nil {
		return warn("groupadd --system "+config.Group, "cannot read groups: %s", err)
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, config.Group+":") {
			return pass("group %s may use the socket", config.Group)
		}
	}
	return warn("groupadd --system "+config.Group, "no group %s: only root can use the socket", config.Group)
}

func checkContainerd(ctx context.Context, p *patient) finding {
	ctx, cancel := context.WithTimeoutCause(ctx, checkWait, errors.New("containerd does not answer"))
	defer cancel()
	version, err := containerdVersion(ctx, p.config.Containerd.Address)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail("apt-get install containerd && systemctl enable --now containerd", "nothing at %s", p.config.Containerd.Address)
	case errors.Is(err, fs.ErrPermission):
		return warn("sudo berth doctor", "%s may not be opened", p.config.Containerd.Address)
	case err != nil:
		return fail("systemctl restart containerd; journalctl -u containerd", "%s", err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(strings.TrimPrefix(version, "v"), "%d.%d", &major, &minor); err != nil {
		return pass("version %s", version)
	}
	if major < 1 || major == 1 && minor < 6 {
		return fail("apt-get install containerd", "version %s; Berth needs 1.6 or newer", version)
	}
	return pass("version %s at %s", version, p.config.Containerd.Address)
}

func checkRunc(_ context.Context, p *patient) finding {
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		info, err := os.Stat(p.path(filepath.Join(dir, "runc")))
		if err == nil && info.Mode()&0o111 != 0 {
			return pass("%s", filepath.Join(dir, "runc"))
		}
	}
	return fail("apt-get install runc", "there is no runc where containerd looks")
}

func checkOverlay(_ context.Context, p *patient) finding {
	text, err := p.read("/proc/filesystems")
	if err != nil {
		return warn("", "cannot read /proc/filesystems: %s", err)
	}
	if slices.Contains(strings.Fields(text), "overlay") {
		return pass("in the kernel")
	}
	return fail("modprobe overlay && echo overlay > /etc/modules-load.d/berth.conf", "the kernel has no overlay file system")
}

// checkCgroups looks for the controllers that limits and metrics need.
func checkCgroups(_ context.Context, p *patient) finding {
	const mend = "add cgroup_enable=memory to the kernel's command line and reboot"
	if text, err := p.read("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		missing := without([]string{"cpu", "io", "memory", "pids"}, strings.Fields(text))
		if len(missing) > 0 {
			return fail(mend, "cgroup v2 without %s", strings.Join(missing, ", "))
		}
		return pass("v2 with %s", strings.Join(strings.Fields(text), " "))
	}
	mounts, err := p.read("/proc/mounts")
	if err != nil {
		return fail("mount -t cgroup2 none /sys/fs/cgroup", "cannot read mounts: %s", err)
	}
	var have []string
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) > 3 && f[2] == "cgroup" {
			have = append(have, strings.Split(f[3], ",")...)
		}
	}
	if missing := without([]string{"cpu", "cpuacct", "memory", "pids", "blkio"}, have); len(missing) > 0 {
		return fail(mend, "no cgroup v2 hierarchy, and v1 without %s", strings.Join(missing, ", "))
	}
	return warn("boot with systemd.unified_cgroup_hierarchy=1", "cgroup v1: it works, but containerd and systemd are about to drop it")
}

func without(want, have []string) []string {
	return slices.DeleteFunc(slices.Clone(want), func(w string) bool { return slices.Contains(have, w) })
}

func checkNftables(_ context.Context, p *patient) finding {
	err := p.nftable()
	switch {
	case err == nil:
		return pass("the kernel answers")
	case errors.Is(err, fs.ErrPermission):
		return warn("sudo berth doctor", "only root may ask")
	default:
		return fail("modprobe nf_tables && echo nf_tables > /etc/modules-load.d/berth.conf", "%s", err)
	}
}

func checkForward(_ context.Context, p *patient) finding {
	const mend = "echo net.ipv4.ip_forward=1 > /etc/sysctl.d/60-berth.conf && sysctl --system"
	text, err := p.read("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		return warn(mend, "cannot read it: %s", err)
	}
	if strings.TrimSpace(text) != "1" {
		return warn(mend, "off: bridge mode containers reach nothing until it is on")
	}
	return pass("on")
}

// checkSubnet looks for routes of others into the bridge's subnet.
func checkSubnet(_ context.Context, p *patient) finding {
	subnet := ipam.DefaultPool().IPv4
	if s := p.config.Network.Subnet; s != "" {
		var err error
		if subnet, err = netip.ParsePrefix(s); err != nil {
			return fail("set BERTH_BRIDGE_SUBNET", "%s", err)
		}
	}
	text, err := p.read("/proc/net/route")
	if err != nil {
		return warn("ip route", "cannot read routes: %s", err)
	}
	for line := range strings.Lines(text) {
		device, route, ok := parseRoute(line)
		if ok && device != p.config.Network.Bridge && route.Bits() > 0 && route.Overlaps(subnet) {
			return fail("set another BERTH_BRIDGE_SUBNET in "+config.DefaultFile, "%s is also reached through %s (%s)", subnet, device, route)
		}
	}
	return pass("%s", subnet)
}

// parseRoute reads a line of /proc/net/route: numbers there are hexadecimal in the host's byte order.
func parseRoute(line string) (device string, route netip.Prefix, ok bool) {
	f := strings.Fields(line)
	if len(f) < 8 {
		return "", netip.Prefix{}, false
	}
	address, errA := hex.DecodeString(f[1])
	mask, errM := hex.DecodeString(f[7])
	if errA != nil || errM != nil || len(address) != 4 || len(mask) != 4 {
		return "", netip.Prefix{}, false
	}
	var a, m [4]byte
	binary.NativeEndian.PutUint32(a[:], binary.BigEndian.Uint32(address))
	binary.NativeEndian.PutUint32(m[:], binary.BigEndian.Uint32(mask))
	bits, _ := net.IPMask(m[:]).Size()
	return f[0], netip.PrefixFrom(netip.AddrFrom4(a), bits), true
}

// checkDisk looks at the file system that path is or will be on.
func checkDisk(p *patient, path string) finding {
	at := path
	for !p.exists(at) && at != "/" {
		at = filepath.Dir(at)
	}
	s, err := p.statfs(p.path(at))
	if err != nil {
		return warn("df "+path, "%s", err)
	}
	free := float64(s.Bavail) / float64(max(s.Blocks, 1)) * 100
	inodes := 100.0
	if s.Files > 0 { // btrfs and kin have no fixed number
		inodes = float64(s.Ffree) / float64(s.Files) * 100
	}
	why := fmt.Sprintf("%s: %s (%.0f%%) and %.0f%% of inodes free", path, units.BytesSize(float64(s.Bavail)*float64(s.Bsize)), free, inodes)
	const mend = "berth images shows what uses it; or grow the volume"
	switch least := min(free, inodes); {
	case least < 3:
		return fail(mend, "%s", why)
	case least < 15:
		return warn(mend, "%s", why)
	default:
		return pass("%s", why)
	}
}

func checkClock(_ context.Context, p *patient) finding {
	const mend = "systemctl enable --now systemd-timesyncd (or chrony)"
	if p.now.Year() < 2025 {
		return fail(mend, "it is not %s", p.now.Format(time.DateOnly))
	}
	synced, err := p.adjtime()
	switch {
	case err != nil:
		return warn(mend, "%s", err)
	case !synced:
		return warn(mend, "nothing keeps it right; AWS refuses requests that are more than five minutes off")
	default:
		return pass("synchronised")
	}
}

func checkUnit(_ context.Context, p *patient) finding {
	if !p.exists("/run/systemd/system") {
		return warn("start `berth agent` by whatever supervises this host", "systemd does not run here")
	}
	dirs := []string{"/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
	if !slices.ContainsFunc(dirs, func(d string) bool { return p.exists(d + "/berth.service") }) {
		return fail("install the package berth", "there is no berth.service")
	}
	if _, err := os.Lstat(p.path("/etc/systemd/system/multi-user.target.wants/berth.service")); err != nil {
		return warn("systemctl enable --now berth", "berth.service does not start at boot")
	}
	return pass("berth.service starts at boot")
}

func checkLogs(ctx context.Context, p *patient) finding {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", p.config.Paths.LogSocket)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return warn("sudo berth doctor", "%s may not be opened", p.config.Paths.LogSocket)
	case err != nil && !p.exists("/run/systemd/system"):
		return pass("not running: without systemd the agent starts one when a container does")
	case err != nil:
		return fail("systemctl restart berth-logs", "it does not answer at %s", p.config.Paths.LogSocket)
	}
	_ = conn.Close()
	return pass("answers")
}

func checkAgent(ctx context.Context, p *patient) finding {
	s, err := status(ctx, p)
	if err != nil {
		e, _ := errors.AsType[*hostapi.Error](err)
		switch {
		case e != nil && e.Code == hostapi.CodeUnreachable:
			return fail("systemctl start berth; journalctl -u berth", "%s", err)
		case e != nil && e.Hint != "":
			return warn(e.Hint, "%s", err)
		default:
			return fail("systemctl restart berth", "%s", err)
		}
	}
	if !s.Health.Healthy() {
		return fail("journalctl -u berth", "version %s: %s", s.Version, s.Health.Summary())
	}
	return pass("version %s: %s", s.Version, s.Health.Summary())
}

func status(ctx context.Context, p *patient) (hostapi.StatusView, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, checkWait, errors.New("the agent does not answer"))
	defer cancel()
	return p.client.Status(ctx)
}

func checkConnections(ctx context.Context, p *patient) finding {
	s, err := status(ctx, p)
	if err != nil {
		return warn("", "unknown while the agent does not answer")
	}
	if len(s.Connections) == 0 {
		return warn("journalctl -u berth", "none: the agent has not registered")
	}
	for _, c := range s.Connections {
		if !c.Connected {
			return fail("journalctl -u berth", "%s is down for %s: %s", c.Name, short(p.now, &c.Since), c.Reason)
		}
	}
	return pass("cluster %s in %s", s.Cluster, dash(s.Region))
}

// checksWait is how long the agent may look for what does not answer.
const checksWait = 30 * time.Second

// checkFromWithin has the agent look from where containers are. Without an agent there is nothing there to be reached; another finding
// says so.
func checkFromWithin(ctx context.Context, p *patient) []finding {
	if _, err := status(ctx, p); err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, checksWait, errors.New("the agent does not answer"))
	defer cancel()
	views, err := p.client.Checks(ctx)
	if err != nil {
		f := warn("systemctl restart berth", "the agent cannot look from where containers are: %s", err)
		f.Check = "network"
		return []finding{f}
	}
	out := make([]finding, len(views))
	for i, v := range views {
		out[i] = finding{Check: v.Check, Status: verdict(v.Status), Why: v.Why, Mend: v.Mend}
	}
	return out
}
