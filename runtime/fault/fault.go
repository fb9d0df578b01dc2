// Package fault holds the words for network faults that a task asks for: what is
// to go wrong, and why it cannot. runtime/network/faults makes it true.
package fault

import (
	"errors"
	"net/netip"
)

// The kinds of faults, as ECS names them.
const (
	BlackholePort = "network-blackhole-port"
	Latency       = "network-latency"
	PacketLoss    = "network-packet-loss"
)

// Directions of traffic that a black hole swallows.
const (
	Ingress = "ingress"
	Egress  = "egress"
)

// Fault is what is to go wrong; who makes one has seen to it that it is valid.
type Fault struct {
	// Kind is BlackholePort, Latency or PacketLoss.
	Kind string
	// Port, Protocol (tcp or udp) and Direction are a black hole's: packets to the port.
	Port      uint16
	Protocol  string
	Direction string
	// DelayMilliseconds and JitterMilliseconds are a latency's, and not both zero.
	DelayMilliseconds, JitterMilliseconds uint64
	// LossPercent of packets are lost, of FlowsPercent of flows; both from 1 to 100.
	LossPercent, FlowsPercent int
	// Sources are the other ends that suffer latency and loss; SourcesToFilter are
	// spared of any fault.
	Sources, SourcesToFilter []netip.Prefix
}

var (
	// ErrNoLink says that the host has no link to make faults on.
	ErrNoLink = errors.New("the host has no default route")
	// ErrNoNamespace says that the task has no network to make faults in.
	ErrNoNamespace = errors.New("no such network namespace")
)

// RunningError says that there is latency or loss already: a task can have one of
// them. Kind is the one that there is.
type RunningError struct{ Kind string }

func (e *RunningError) Error() string { return e.Kind + " is running already" }
