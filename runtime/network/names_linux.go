package network

import "context"

// resolvedUpstream is where systemd-resolved lists the servers behind its own 127.0.0.53.
const resolvedUpstream = "/run/systemd/resolve/resolv.conf"

// Files writes a container's hosts, resolv.conf and hostname, in any network mode, and returns where they are. Each is
// replaced in one step. A name that would break a file is [ErrBadName].
func (n *Network) Files(ctx context.Context, r FilesRequest) (Files, error) {
	if err := alive(ctx); err != nil {
		return Files{}, err
	}
	return n.names().write(r)
}

// RemoveFiles removes what Files wrote. What is not there is no error.
func (n *Network) RemoveFiles(ctx context.Context, id string) error {
	if err := alive(ctx); err != nil {
		return err
	}
	return n.names().remove(id)
}

func (n *Network) names() nameFiles {
	return nameFiles{
		dir:        n.cfg.FilesDir,
		resolvConf: n.cfg.ResolvConf,
		hostsFile:  n.cfg.HostsFile,
		upstream:   resolvedUpstream,
		fallback:   n.cfg.FallbackDNS,
	}
}
