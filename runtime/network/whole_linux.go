package network

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// wholeTries is how often a list is asked for that changes while it is read.
const wholeTries = 100

// whole is a list of the kernel's as it was at one time. The kernel hands lists
// out in parts, and says when something changed between two of them: elsewhere on
// the host interfaces come and go all the time, and that is no reason to fail.
func whole[T any](list func() ([]T, error)) ([]T, error) {
	for try := 1; ; try++ {
		all, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || try == wholeTries {
			return all, err
		}
	}
}

// addressesOf are those of a link.
func addressesOf(nl *netlink.Handle, link netlink.Link, family int) ([]netlink.Addr, error) {
	return whole(func() ([]netlink.Addr, error) { return nl.AddrList(link, family) })
}

// routesLike are those that a filter lets through.
func routesLike(nl *netlink.Handle, family int, like *netlink.Route, filter uint64) ([]netlink.Route, error) {
	return whole(func() ([]netlink.Route, error) { return nl.RouteListFiltered(family, like, filter) })
}
