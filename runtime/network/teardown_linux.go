package network

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// Teardown removes what Ensure, Attach and Sync made: links, namespaces, the bridge and the tables, and nothing of
// anybody else, such as a Network with another bridge. Containers that are attached lose their network. What is not
// there is no error, one failure does not keep the rest from being removed, and Ensure makes it all anew. Forwarding
// stays switched on.
func (n *Network) Teardown(ctx context.Context) error {
	if err := alive(ctx); err != nil {
		return err
	}
	n.plan.Lock()
	defer n.plan.Unlock()
	// The tables go last, as they come first: no packet passes unguarded.
	err := errors.Join(n.dropBridge(n.cfg.sideBridge()), n.dropBridge(n.cfg.Bridge))
	_, nsErr := n.dropNamespaces(nil)
	if err = errors.Join(err, nsErr, n.nft.remove()); err != nil {
		return fmt.Errorf("cannot tear the network down: %w", err)
	}
	return nil
}

// dropBridge removes a bridge with all links of ours.
func (n *Network) dropBridge(name string) error {
	link, err := n.nl.LinkByName(name)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot find bridge %s: %w", name, err)
	}
	if _, ok := link.(*netlink.Bridge); !ok {
		return fmt.Errorf("cannot remove link %s: it is a %s, not a bridge", name, link.Type())
	}
	if _, _, err := n.dropLinks(nil); err != nil {
		return err
	}
	if err := n.nl.LinkDel(link); err != nil {
		return fmt.Errorf("cannot remove bridge %s: %w", name, err)
	}
	return nil
}

// remove deletes our tables, those that are there, in one transaction.
func (f *firewall) remove() error {
	return f.transact(func(c *nftables.Conn) error {
		for _, table := range []*nftables.Table{f.table, f.ports} {
			tables, err := c.ListTablesOfFamily(table.Family)
			if err != nil && table == f.ports {
				continue // no nftables for bridges in this kernel
			}
			if err != nil {
				return fmt.Errorf("cannot list nftables tables: %w", err)
			}
			for _, t := range tables {
				if t.Name == table.Name {
					c.DelTable(table)
				}
			}
		}
		if err := c.Flush(); err != nil {
			return fmt.Errorf("cannot remove nftables table %s: %w", f.cfg.Table, err)
		}
		return nil
	})
}
