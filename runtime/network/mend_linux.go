package network

import (
	"context"
	"errors"
	"fmt"

	"github.com/berthd/berth/ipam"
)

// Mend writes our nftables tables again if somebody has deleted them: restarting Debian's nftables.service flushes every
// table of the host. Until then no published port is reachable, and no endpoint can be attached. It reports whether it
// had to.
//
// plan is called only then, while nothing is being attached or detached; it answers with the endpoints that are
// attached, and must not call this Network. Links and namespaces are left as they are.
func (n *Network) Mend(ctx context.Context, plan func() ipam.Plan) (mended bool, err error) {
	if err := alive(ctx); err != nil {
		return false, err
	}
	n.plan.Lock()
	defer n.plan.Unlock()
	there, err := n.nft.present()
	if err != nil || there {
		return false, err
	}
	if err := n.nft.ensure(); err != nil {
		return false, err
	}
	attached := plan()
	if err := attached.Validate(); err != nil {
		return false, fmt.Errorf("cannot publish ports again: %w", err)
	}
	for i, e := range attached {
		attached[i] = usable(e)
	}
	_, err = n.nft.apply(attached)
	err = errors.Join(err, n.nft.guardTasks(n.nft.hostTasks))
	return err == nil, err
}
