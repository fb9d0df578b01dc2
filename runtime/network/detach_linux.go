package network

import (
	"context"
	"errors"
	"fmt"

	"github.com/berthd/berth/ipam"
)

// Detach removes a container's network: published ports first, so that no new connection goes to an address without a
// container, then the link and the namespace, out of which an ENI goes back to the host, and what the kernel remembers of UDP flows, if the endpoint publishes
// UDP. What is not there is no error, and one failure does not keep the rest from being removed.
func (n *Network) Detach(ctx context.Context, e ipam.Endpoint) error {
	if err := alive(ctx); err != nil {
		return err
	}
	if err := e.Validate(); err != nil {
		return err
	}
	n.plan.RLock()
	defer n.plan.RUnlock()
	var errs []error
	if !e.None() {
		errs = append(errs, n.nft.withdraw(e), n.unlink.remove(n.cfg.linkName(e.ID)))
	}
	if e.ENI != nil {
		errs = append(errs, n.giveBack(n.NetNS(e.ID)))
	}
	errs = append(errs, removeNetNS(n.cfg.OnHost, n.NetNS(e.ID)), n.forget(e))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot detach container %s from the network: %w", e.ID, err)
	}
	return nil
}
