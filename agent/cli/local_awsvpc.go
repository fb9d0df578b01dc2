package cli

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/runtime/vpc"
)

// detachEvery is how often it is looked whether tasks with network interfaces have stopped.
const detachEvery = time.Second

// interfaceSource gives awsvpc tasks of a local cluster their network interfaces.
type interfaceSource struct {
	vpc    *vpc.VPC
	region string
	log    *zap.Logger
}

func newInterfaceSource(subnet, region string, log *zap.Logger) (*interfaceSource, error) {
	prefix, err := netip.ParsePrefix(subnet)
	if err != nil {
		return nil, usage("--awsvpc %q is no subnet, such as %v", subnet, vpc.DefaultSubnet())
	}
	v, err := vpc.New(prefix)
	if err != nil {
		return nil, fmt.Errorf("cannot make the network for awsvpc tasks: %w", err)
	}
	return &interfaceSource{vpc: v, region: region, log: log}, nil
}

// attach is a localcluster.InterfaceSource.
func (s *interfaceSource) attach(taskARN string) (*acs.ENI, error) {
	i, err := s.vpc.Attach(taskARN)
	if err != nil {
		return nil, err
	}
	eni := &acs.ENI{
		EC2ID: i.ID, MACAddress: i.MAC.String(), Name: "eth0",
		IPv4Addresses:                []acs.IPv4Address{{PrivateAddress: i.IPv4.Addr().String(), Primary: true}},
		SubnetGatewayIPv4Address:     i.GatewayIPv4.String(),
		PrivateDNSName:               s.name(i.IPv4.Addr()),
		InterfaceAssociationProtocol: acs.AssociationDefault,
	}
	if i.IPv6.IsValid() {
		eni.IPv6Addresses = []acs.IPv6Address{{Address: i.IPv6.Addr().String(), Primary: true}}
		eni.SubnetGatewayIPv6Address = i.GatewayIPv6.String()
	}
	return eni, nil
}

// name is an address's in the DNS of EC2.
func (s *interfaceSource) name(a netip.Addr) string {
	host := "ip-" + strings.ReplaceAll(a.String(), ".", "-")
	if s.region == "us-east-1" {
		return host + ".ec2.internal"
	}
	return host + "." + s.region + ".compute.internal"
}

// follow takes the interfaces of stopped tasks away until ctx ends. The answer waits for that.
func (s *interfaceSource) follow(ctx context.Context, server *localcluster.Server) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(detachEvery)
		defer ticker.Stop()
		for {
			if err := s.sweep(server); err != nil {
				s.log.Error("cannot take network interfaces of stopped tasks away", zap.Error(err))
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { <-done }
}

// sweep detaches the interfaces whose tasks have stopped. The interfaces are listed first: one that is made meanwhile is not on the
// list, and one that is has its task among the owners by the time they are asked for.
func (s *interfaceSource) sweep(server *localcluster.Server) error {
	attached, err := s.vpc.Interfaces()
	if err != nil || len(attached) == 0 {
		return err
	}
	owners := server.InterfaceOwners()
	for _, owner := range attached {
		if slices.Contains(owners, owner) {
			continue
		}
		if err := s.vpc.Detach(owner); err != nil {
			return err
		}
	}
	return nil
}

// close leaves the network to the tasks that have interfaces in it, and removes it when there are none.
func (s *interfaceSource) close() {
	if _, err := s.vpc.Remove(); err != nil {
		s.log.Error("cannot remove the network for awsvpc tasks", zap.Error(err))
	}
	s.vpc.Close()
}
