package network

import (
	"errors"
	"fmt"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// linkGroup marks links that are about to be removed. Nothing else on a host uses the number, and that is checked.
const linkGroup = 0xbe274

// An unlinker removes links, several at once where several are asked for at the same time: the kernel takes tens of
// milliseconds for a removal, in which nobody else may change links, but no longer for a whole group. When a deployment
// stops forty containers, starting others does not have to wait forty times as long.
type unlinker struct {
	n *Network

	turn sync.Mutex // held by whoever is removing; guards the results of requests

	mu      sync.Mutex // guards waiting
	waiting []*unlinkRequest
}

type unlinkRequest struct {
	names []string
	done  bool
	err   error
}

// remove removes links by name. Their other ends go with them. A link that is not there is no error.
func (u *unlinker) remove(names ...string) error {
	if len(names) == 0 {
		return nil
	}
	r := &unlinkRequest{names: names}
	u.mu.Lock()
	u.waiting = append(u.waiting, r)
	u.mu.Unlock()

	u.turn.Lock()
	defer u.turn.Unlock()
	if r.done { // by whoever had the turn before
		return r.err
	}
	u.mu.Lock()
	batch := u.waiting
	u.waiting = nil
	u.mu.Unlock()
	u.serve(batch)
	return r.err
}

func (u *unlinker) serve(batch []*unlinkRequest) {
	wanted := make(map[string]bool)
	for _, r := range batch {
		r.done = true
		for _, name := range r.names {
			wanted[name] = true
		}
	}
	links, err := u.find(wanted)
	if err == nil && len(links) > 1 && u.removeGroup(links) == nil {
		return
	}
	for _, r := range batch {
		r.err = err
		for _, name := range r.names {
			if l, there := links[name]; there {
				r.err = errors.Join(r.err, u.removeOne(l))
			}
		}
	}
}

func (u *unlinker) removeOne(l netlink.Link) error {
	err := u.n.nl.LinkDel(l)
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("cannot remove link %s: %w", l.Attrs().Name, err)
	}
	return nil
}

// find returns those of the links that exist.
func (u *unlinker) find(wanted map[string]bool) (map[string]netlink.Link, error) {
	all, err := whole(u.n.nl.LinkList)
	if err != nil {
		return nil, fmt.Errorf("cannot list links: %w", err)
	}
	found := make(map[string]netlink.Link, len(wanted))
	for _, l := range all {
		if wanted[l.Attrs().Name] {
			found[l.Attrs().Name] = l
		}
	}
	return found, nil
}

// removeGroup puts the links into our group and removes the group. Any error leaves the links to be removed one by one.
func (u *unlinker) removeGroup(links map[string]netlink.Link) error {
	for _, l := range links {
		if err := u.n.nl.LinkSetGroup(l, linkGroup); err != nil {
			return fmt.Errorf("cannot set group of link %s: %w", l.Attrs().Name, err)
		}
	}
	all, err := whole(u.n.nl.LinkList)
	if err != nil {
		return fmt.Errorf("cannot list links: %w", err)
	}
	for _, l := range all {
		if _, ours := links[l.Attrs().Name]; l.Attrs().Group == linkGroup && !ours {
			return fmt.Errorf("link %s of others is in group %#x", l.Attrs().Name, linkGroup)
		}
	}
	return within(u.n.host, func() error {
		req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
		req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(linkGroup)))
		if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
			return fmt.Errorf("cannot remove links of group %#x: %w", linkGroup, err)
		}
		return nil
	})
}
