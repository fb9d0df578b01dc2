package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/berthd/berth/ipam"
)

// Sync makes the host as the plan says, whatever it was before: it removes links, namespaces and published ports that no
// endpoint has, and attaches what is missing. It follows Ensure after a restart. It returns what was removed, in words.
// One endpoint that cannot be repaired does not stop the others. A plan that contradicts itself is [ipam.ErrBadPlan],
// and nothing is changed.
func (n *Network) Sync(ctx context.Context, plan ipam.Plan) (removed []string, err error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	if err := plan.Validate(); err != nil {
		return nil, err
	}
	n.plan.Lock()
	defer n.plan.Unlock()

	possible := make(ipam.Plan, len(plan))
	wanted := make(map[string]bool, 2*len(plan)) // ids and link names
	for i, e := range plan {
		possible[i] = usable(e)
		wanted[e.ID] = true
		wanted[n.cfg.linkName(e.ID)] = true
	}
	strays, err := n.nft.apply(possible)
	if err != nil {
		return nil, err
	}
	for _, s := range strays {
		removed = append(removed, s.String())
	}
	links, gone, err := n.dropLinks(wanted)
	removed = append(removed, gone...)
	if err != nil {
		return removed, err
	}
	gone, err = n.dropNamespaces(wanted)
	removed = append(removed, gone...)
	errs := []error{err}
	for _, e := range possible {
		if err := n.repair(e, links); err != nil {
			errs = append(errs, fmt.Errorf("cannot repair network of container %s: %w", e.ID, err))
		}
	}
	return removed, errors.Join(errs...)
}

// dropLinks removes links of ours that nobody wants, and returns those that are in order: in the bridge and up.
func (n *Network) dropLinks(wanted map[string]bool) (sound map[string]bool, removed []string, err error) {
	bridges, err := n.bridges()
	if err != nil {
		return nil, nil, err
	}
	links, err := whole(n.nl.LinkList)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot list links: %w", err)
	}
	sound = make(map[string]bool)
	var strays []string
	for _, l := range links {
		a := l.Attrs()
		if l.Type() != "veth" || !strings.HasPrefix(a.Name, n.cfg.linkPrefix()) {
			continue
		}
		plugged := slices.Contains(bridges, a.MasterIndex)
		switch {
		case wanted[a.Name]:
			sound[a.Name] = plugged && a.OperState == netlink.OperUp
		case plugged:
			strays = append(strays, a.Name)
			removed = append(removed, "link "+a.Name)
		}
	}
	if err := n.unlink.remove(strays...); err != nil {
		return sound, nil, err
	}
	return sound, removed, nil
}

// bridges are the indexes of our bridges, those that are there: that of containers and that of second interfaces.
func (n *Network) bridges() ([]int, error) {
	var indexes []int
	for _, name := range []string{n.cfg.Bridge, n.cfg.sideBridge()} {
		bridge, err := n.nl.LinkByName(name)
		if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot find bridge %s: %w", name, err)
		}
		indexes = append(indexes, bridge.Attrs().Index)
	}
	return indexes, nil
}

// dropNamespaces removes namespaces of containers that are not in the plan.
func (n *Network) dropNamespaces(wanted map[string]bool) (removed []string, err error) {
	entries, err := os.ReadDir(n.cfg.NetNSDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list network namespaces: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		if wanted[entry.Name()] {
			continue
		}
		path := n.NetNS(entry.Name())
		if err := errors.Join(n.giveBack(path), removeNetNS(n.cfg.OnHost, path)); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, "network namespace "+entry.Name())
	}
	return removed, errors.Join(errs...)
}

// repair attaches an endpoint again, unless namespace and link are in order. The published ports are by now. A link
// that is up has its other end up in a namespace with that namespace's addresses.
func (n *Network) repair(e ipam.Endpoint, sound map[string]bool) error {
	bound, err := isNetNS(n.NetNS(e.ID))
	if err != nil {
		return fmt.Errorf("cannot look at network namespace: %w", err)
	}
	if bound && (e.None() || sound[n.cfg.linkName(e.ID)]) {
		return nil
	}
	return n.attach(e)
}
