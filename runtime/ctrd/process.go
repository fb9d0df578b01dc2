package ctrd

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	linuxcap "github.com/containerd/containerd/v2/pkg/cap"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/runtime/container"
)

// defaultPath is the PATH of a container whose image has none.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// defaultCaps are Docker's (spec/task-engine.md §5.4).
//
//nolint:gochecknoglobals // an immutable table
var defaultCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// Default limits of open files, as Amazon Linux configures Docker.
const (
	nofileSoft = 32768
	nofileHard = 65536
)

func ociProcess(in specInput) (*specs.Process, error) {
	args := arguments(in.Process, in.image)
	if len(args) == 0 {
		return nil, invalid("no command specified") // Docker's words
	}
	if in.Process.Init {
		if len(in.init) == 0 {
			return nil, invalid("no init binary found: install docker-init, tini or catatonit")
		}
		args = slices.Concat([]string{initPath}, in.init[1:], []string{"--"}, args)
	}
	user := in.Process.User
	if user == "" {
		user = in.image.Config.User
	}
	account, err := in.accounts.resolve(user, in.Rights.GroupAdd)
	if err != nil {
		return nil, invalid("%w", err)
	}
	caps, err := capabilities(in.Rights)
	if err != nil {
		return nil, err
	}
	limits, err := rlimits(in.Limits.Ulimits, in.host.nofile)
	if err != nil {
		return nil, err
	}
	cwd := in.Process.WorkingDir
	if cwd == "" {
		cwd = in.image.Config.WorkingDir
	}
	p := &specs.Process{
		Terminal:        in.Process.Terminal,
		Args:            args,
		Env:             environment(in),
		Cwd:             cleanPath(cwd),
		User:            account,
		NoNewPrivileges: in.Rights.NoNewPrivileges,
		Rlimits:         limits,
		OOMScoreAdj:     oomScore(in.Limits),
		Capabilities:    processCaps(caps, account.UID),
	}
	return p, nil
}

// oomScore is the container's, zero by default: without one it would have its
// shim's, which is about the last process that the kernel would kill.
func oomScore(l container.Limits) *int {
	if l.OOMScoreAdj != nil {
		return l.OOMScoreAdj
	}
	return new(int)
}

// processCaps gives the capabilities to a process: all of them to root, and to
// another user only as what it may gain by exec.
func processCaps(caps []string, uid uint32) *specs.LinuxCapabilities {
	c := &specs.LinuxCapabilities{Bounding: caps}
	if uid == 0 {
		c.Effective, c.Permitted = caps, caps
	}
	return c
}

// arguments are what a process runs in a container of the image.
func arguments(p container.Process, image imageConfig) []string {
	return p.Arguments(container.Image{Entrypoint: image.Config.Entrypoint, Command: image.Config.Cmd})
}

// environment is the image's, overridden by the container's.
func environment(in specInput) []string {
	env := []string{defaultPath, "HOSTNAME=" + hostname(in)}
	if in.Process.Terminal {
		env = append(env, "TERM=xterm")
	}
	return override(override(env, in.image.Config.Env), in.Process.Env)
}

// override sets variables; the place of the first of a name stays.
func override(env, over []string) []string {
	env = slices.Clone(env)
	for _, kv := range over {
		name, _, ok := strings.Cut(kv, "=")
		if !ok {
			continue
		}
		i := slices.IndexFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		if i < 0 {
			env = append(env, kv)
			continue
		}
		env[i] = kv
	}
	return env
}

// capabilities are Docker's default, with changes.
func capabilities(r container.Rights) ([]string, error) {
	if r.Privileged {
		return allCaps()
	}
	all, err := allCaps()
	if err != nil {
		return nil, err
	}
	name := func(c string) string {
		c = strings.ToUpper(c)
		if c != "ALL" && !strings.HasPrefix(c, "CAP_") {
			c = "CAP_" + c
		}
		return c
	}
	known := append(linuxcap.Known(), "ALL")
	caps := slices.Clone(defaultCaps)
	for _, list := range [][]string{r.CapAdd, r.CapDrop} {
		for _, c := range list {
			if !slices.Contains(known, name(c)) {
				return nil, invalid("unknown capability %q", c)
			}
		}
	}
	dropsAll := slices.ContainsFunc(r.CapDrop, func(c string) bool { return name(c) == "ALL" })
	addsAll := slices.ContainsFunc(r.CapAdd, func(c string) bool { return name(c) == "ALL" })
	switch {
	case addsAll:
		caps = all
	case dropsAll:
		caps = nil
	}
	for _, c := range r.CapAdd {
		if c = name(c); c != "ALL" && !slices.Contains(caps, c) && slices.Contains(all, c) {
			caps = append(caps, c)
		}
	}
	for _, c := range r.CapDrop {
		caps = slices.DeleteFunc(caps, func(have string) bool { return have == name(c) && !slices.Contains(r.CapAdd, c) })
	}
	return caps, nil
}

// allCaps are those that a container can be given. It is containerd that gives
// them, and not we, who may be shut in: what it has is what the host's first
// process may hand on.
func allCaps() ([]string, error) {
	f, err := os.Open("/proc/1/status")
	if err != nil {
		return nil, fmt.Errorf("cannot read the host's capabilities: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	sets, err := linuxcap.ParseProcPIDStatus(f)
	if err != nil {
		return nil, fmt.Errorf("cannot read the host's capabilities: %w", err)
	}
	all, _ := linuxcap.FromBitmap(sets[linuxcap.Bounding]) // What has no name yet cannot be given.
	return all, nil
}

// rlimits are the container's ulimits over the default, which is bounded by the
// most open files that this host lets us give.
func rlimits(ulimits []container.Ulimit, most uint64) ([]specs.POSIXRlimit, error) {
	limits := []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: min(nofileSoft, most), Hard: min(nofileHard, most)}}
	names := []string{
		"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
		"rtprio", "rttime", "sigpending", "stack",
	}
	value := func(v int64) uint64 {
		if v < 0 {
			return math.MaxUint64
		}
		return uint64(v)
	}
	for _, u := range ulimits {
		if !slices.Contains(names, strings.ToLower(u.Name)) {
			return nil, invalid("invalid ulimit type: %s", u.Name)
		}
		l := specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: value(u.Soft), Hard: value(u.Hard)}
		if l.Soft > l.Hard {
			return nil, invalid("ulimit soft limit must be less than or equal to hard limit: %d > %d", u.Soft, u.Hard)
		}
		limits = slices.DeleteFunc(limits, func(have specs.POSIXRlimit) bool { return have.Type == l.Type })
		limits = append(limits, l)
	}
	return limits, nil
}

// resolve finds user and groups: "user", "uid", "user:group" or "uid:gid".
// Without a group, the user's own and those that list it count, as in Docker.
func (a accounts) resolve(user string, further []string) (specs.User, error) {
	name, groupName, hasGroup := strings.Cut(user, ":")
	if name == "" {
		name = "0"
	}
	var out specs.User
	entry := find(a.passwd, func(f []string) bool { return len(f) > 3 && f[0] == name })
	id, err := strconv.ParseUint(name, 10, 31)
	numeric := err == nil
	if entry == nil && numeric {
		entry = find(a.passwd, func(f []string) bool { return len(f) > 3 && f[2] == name })
	}
	switch {
	case entry != nil:
		uid, uerr := strconv.ParseUint(entry[2], 10, 32)
		gid, gerr := strconv.ParseUint(entry[3], 10, 32)
		if uerr != nil || gerr != nil {
			return out, fmt.Errorf("invalid entry for user %s in /etc/passwd", name)
		}
		out.UID, out.GID = uint32(uid), uint32(gid)
	case numeric:
		out.UID = uint32(id)
	default:
		return out, fmt.Errorf("unable to find user %s: no matching entries in passwd file", name)
	}
	if hasGroup && groupName != "" {
		if out.GID, err = a.gid(groupName); err != nil {
			return out, err
		}
	} else if entry != nil {
		out.AdditionalGids = a.groupsOf(entry[0], out.GID)
	}
	for _, g := range further {
		gid, err := a.gid(g)
		if err != nil {
			return out, err
		}
		if !slices.Contains(out.AdditionalGids, gid) {
			out.AdditionalGids = append(out.AdditionalGids, gid)
		}
	}
	return out, nil
}

// gid finds a group by name or number.
func (a accounts) gid(name string) (uint32, error) {
	entry := find(a.group, func(f []string) bool { return len(f) > 2 && f[0] == name })
	text := name
	if entry != nil {
		text = entry[2]
	}
	gid, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("unable to find group %s: no matching entries in group file", name)
	}
	return uint32(gid), nil
}

// groupsOf are the groups that list the user, without its own.
func (a accounts) groupsOf(user string, own uint32) []uint32 {
	var out []uint32
	for line := range strings.Lines(a.group) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 4 || !slices.Contains(strings.Split(f[3], ","), user) {
			continue
		}
		if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil && uint32(gid) != own {
			out = append(out, uint32(gid))
		}
	}
	return out
}

// find is the first line of an account file, in fields, that ok says yes to.
func find(text string, ok func([]string) bool) []string {
	for line := range strings.Lines(text) {
		if f := strings.Split(strings.TrimSpace(line), ":"); ok(f) {
			return f
		}
	}
	return nil
}
