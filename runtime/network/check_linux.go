package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/berthd/berth/ipam"
)

// Problem is something about the host that keeps containers from being reached, and what to do about it.
type Problem struct {
	What string // a sentence
	Hint string // what helps, a sentence
	Harm Harm
}

// Harm is how sure it is that a Problem does any.
type Harm string

// How sure.
const (
	// Proven: something does not work.
	Proven Harm = ""
	// Possible: something does not work unless others' rules, which are not read, make it work.
	Possible Harm = "possible"
	// Probable: the same, and Probe shows whether it works; if not, this is the reason.
	Probable Harm = "probable"
)

// Check looks at the host without changing it, for berth doctor. An error is a check that could not be made; the
// problems found are returned nevertheless.
func (n *Network) Check(ctx context.Context) ([]Problem, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	var problems []Problem
	var errs []error
	for _, check := range []func() ([]Problem, error){n.checkBridge, n.checkTable, n.checkRoutes, n.checkSide, n.checkForwarding, n.checkForeign} {
		found, err := check()
		problems = append(problems, found...)
		errs = append(errs, err)
	}
	return problems, errors.Join(errs...)
}

func (n *Network) checkBridge() ([]Problem, error) {
	_, err := n.nl.LinkByName(n.cfg.Bridge)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return []Problem{{
			What: fmt.Sprintf("Bridge %s does not exist.", n.cfg.Bridge),
			Hint: "The agent makes it when it starts: see its log.",
		}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot find bridge %s: %w", n.cfg.Bridge, err)
	}
	return nil, nil
}

func (n *Network) checkTable() ([]Problem, error) {
	there, err := n.nft.present()
	if err != nil || there {
		return nil, err
	}
	return []Problem{{
		What: fmt.Sprintf("The nftables table inet %s does not exist, so no published port is reachable.", n.cfg.Table),
		Hint: "Restart the agent, which writes it. If it disappears again, find out what runs nft flush ruleset.",
	}}, nil
}

func (n *Network) checkRoutes() ([]Problem, error) {
	routes, err := n.routes()
	if err != nil {
		return nil, err
	}
	if overlap, found := errors.AsType[*ipam.OverlapError](ipam.Overlaps(n.cfg.Pool, routes)); found {
		return []Problem{{
			What: fmt.Sprintf("The bridge subnet %v overlaps the route to %v via %s.", overlap.Pool, overlap.Route.Prefix, overlap.Route.Device),
			Hint: "Set BERTH_BRIDGE_SUBNET to a range that this host does not use.",
		}}, nil
	}
	return nil, nil
}

// checkSide looks for somebody else who uses the addresses of second interfaces, such as another ECS agent. A route to a
// larger range does not get in the way.
func (n *Network) checkSide() ([]Problem, error) {
	routes, err := n.routes()
	if err != nil {
		return nil, err
	}
	pool := n.cfg.LinkLocal.IPv4
	for _, r := range routes {
		if r.Device == n.cfg.sideBridge() || r.Prefix.Bits() < pool.Bits() || !pool.Overlaps(r.Prefix) {
			continue
		}
		return []Problem{{
			What: fmt.Sprintf("The host reaches %v via %s: tasks in awsvpc mode have addresses of %v, and may not get answers from the agent.", r.Prefix, r.Device, pool),
			Hint: "The ECS agent uses the same addresses: stop its awsvpc tasks, and remove what it left, or run such tasks on another host.",
		}}, nil
	}
	return nil, nil
}

func (n *Network) checkForwarding() ([]Problem, error) {
	var problems []Problem
	err := within(n.host, func() error {
		for _, s := range []struct {
			key  string
			used bool
		}{
			{"net/ipv4/ip_forward", n.cfg.Pool.IPv4.IsValid()},
			{"net/ipv6/conf/all/forwarding", n.cfg.Pool.IPv6.IsValid()},
		} {
			value, err := readSysctl(s.key)
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				return err
			case s.used && value != "1":
				name := strings.ReplaceAll(s.key, "/", ".")
				problems = append(problems, Problem{
					What: name + " is off, so packets do not get to containers.",
					Hint: "Something switched it off after the agent started: look in /etc/sysctl.d, and set " + name + " = 1.",
				})
			}
		}
		return nil
	})
	return problems, err
}

// checkForeign looks for others' chains that drop what they do not know: what is forwarded, and what is for the host
// itself. An accept of ours cannot overrule them.
func (n *Network) checkForeign() ([]Problem, error) {
	chains, err := n.nft.chains()
	if err != nil {
		return nil, err
	}
	var problems []Problem
	for _, ch := range chains {
		ours := ch.Table.Name == n.cfg.Table
		if ours || ch.Hooknum == nil || ch.Type != nftables.ChainTypeFilter || ch.Policy == nil || *ch.Policy != nftables.ChainPolicyDrop {
			continue
		}
		name, routed := familyName(ch.Table.Family)
		if !routed {
			continue
		}
		switch *ch.Hooknum {
		case *nftables.ChainHookForward:
			problems = append(problems, Problem{
				What: fmt.Sprintf("Chain %s of table %s %s drops forwarded packets by default, containers' among them.", ch.Name, name, ch.Table.Name),
				Hint: foreignHint(n.cfg.Bridge, name), Harm: Possible,
			})
		case *nftables.ChainHookInput:
			problems = append(problems, Problem{
				What: fmt.Sprintf("Chain %s of table %s %s drops what comes to the host by default: questions of containers to the agent, and what is for tasks in host mode, unless a rule accepts it.",
					ch.Name, name, ch.Table.Name),
				Hint: n.inputHint(name, ch), Harm: Probable,
			})
		}
	}
	legacy, err := n.legacyTables()
	if err != nil || !legacy {
		return problems, err
	}
	return append(problems, Problem{
		What: "iptables-legacy rules are loaded; whether they drop packets of containers cannot be seen from here.",
		Hint: "Look at iptables-legacy -S FORWARD and -S INPUT. A policy of DROP needs rules that accept bridge " + n.cfg.Bridge + ".",
		Harm: Possible,
	}), nil
}

// inputHint is what lets containers ask the agent, in the words of whoever made the chain.
func (n *Network) inputHint(family string, ch *nftables.Chain) string {
	var rules []string
	for _, bridge := range []string{n.cfg.Bridge, n.cfg.sideBridge()} {
		rule := fmt.Sprintf("nft insert rule %s %s %s iifname %s tcp dport %d accept", family, ch.Table.Name, ch.Name, bridge, n.cfg.TMDS.Port())
		if family == "ip" && ch.Table.Name == "filter" && ch.Name == "INPUT" { // iptables made it, and wants to know.
			rule = fmt.Sprintf("iptables -I INPUT -i %s -p tcp --dport %d -j ACCEPT", bridge, n.cfg.TMDS.Port())
		}
		rules = append(rules, rule)
	}
	return "Accept them: " + strings.Join(rules, "; ")
}

func foreignHint(bridge, family string) string {
	command := "iptables"
	if family == "ip6" {
		command = "ip6tables"
	}
	return fmt.Sprintf("Docker does so, for one. Accept the bridge there: %[1]s -I DOCKER-USER -i %[2]s -j ACCEPT and %[1]s -I DOCKER-USER -o %[2]s -j ACCEPT, or the like in that chain.",
		command, bridge)
}

// familyName names the families whose forward chains see routed packets.
func familyName(f nftables.TableFamily) (string, bool) {
	if f == nftables.TableFamilyINet {
		return "inet", true
	}
	if f == nftables.TableFamilyIPv4 {
		return "ip", true
	}
	return "ip6", f == nftables.TableFamilyIPv6
}

// legacyTables reports whether the old iptables' filter table is in use.
func (n *Network) legacyTables() (bool, error) {
	found := false
	err := within(n.host, func() error {
		for _, file := range []string{"ip_tables_names", "ip6_tables_names"} {
			b, err := os.ReadFile("/proc/thread-self/net/" + file)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("cannot read names of iptables tables: %w", err)
			}
			found = found || strings.Contains("\n"+string(b), "\nfilter\n")
		}
		return nil
	})
	return found, err
}
