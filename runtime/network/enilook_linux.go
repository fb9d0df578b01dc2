package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

// rescan is how often it is looked for an interface although the kernel has said nothing: its messages can be lost.
const rescan = 30 * time.Second

// updates is room for the kernel's messages about links, so that one who reads them slowly does not lose them at once.
const updates = 64

// await calls look whenever the links of the host have changed, until it answers anything but ErrNoInterface. What is
// there already costs no more than the look.
func (n *Network) await(ctx context.Context, look func() error) error {
	if err := look(); !errors.Is(err, ErrNoInterface) {
		return err
	}
	for {
		again, err := n.awaitOnce(ctx, look)
		if !again {
			return err
		}
	}
}

// awaitOnce follows one subscription. again says that it ended, or that it is time to trust it no longer.
func (n *Network) awaitOnce(ctx context.Context, look func() error) (again bool, err error) {
	changes, done := make(chan netlink.LinkUpdate, updates), make(chan struct{})
	ns := n.host
	if err := netlink.LinkSubscribeWithOptions(changes, done, netlink.LinkSubscribeOptions{Namespace: &ns}); err != nil {
		close(done)
		return false, fmt.Errorf("cannot follow the links of the host: %w", err)
	}
	defer func() {
		close(done)
		for range changes { // until its goroutine has ended
		}
	}()
	timer := time.NewTimer(rescan)
	defer timer.Stop()
	for {
		// Looked after the subscription began, so that nothing is missed in between.
		if err := look(); !errors.Is(err, ErrNoInterface) {
			return false, err
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-timer.C:
			return true, nil
		case _, more := <-changes:
			if !more {
				return true, nil
			}
		}
	}
}

// attachedENI looks for an interface in the namespaces of the endpoints.
func (n *Network) attachedENI(mac ipam.MAC) error {
	entries, err := os.ReadDir(n.cfg.NetNSDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot list network namespaces: %w", err)
	}
	for _, entry := range entries {
		err := hasENI(n.NetNS(entry.Name()), mac)
		if !errors.Is(err, ErrNoInterface) {
			return err
		}
	}
	return fmt.Errorf("%w: no link has the hardware address %v", ErrNoInterface, mac)
}

// hasENI looks for an interface in the namespace bound at a path. A namespace that has gone meanwhile does not have it.
func hasENI(path string, mac ipam.MAC) (err error) {
	bound, err := isNetNS(path)
	if err != nil {
		return err
	}
	if !bound {
		return ErrNoInterface
	}
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return ErrNoInterface // It has been removed since.
	}
	defer func() { _ = ns.Close() }()
	inside, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("cannot open netlink socket in the namespace: %w", err)
	}
	defer inside.Close()
	_, err = linkByMAC(inside, mac)
	return err
}
