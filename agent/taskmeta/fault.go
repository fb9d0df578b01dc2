package taskmeta

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/fault"
)

// Faults makes network faults, for tasks in network mode host or awsvpc. All
// methods may be called at once. Their errors may be fault.ErrNoLink,
// fault.ErrNoNamespace, or a *fault.RunningError of Start.
type Faults interface {
	// Start makes a fault; a black hole may be there already.
	Start(ctx context.Context, d *task.Definition, f fault.Fault) error
	// Stop ends a fault, which need not be there.
	Stop(ctx context.Context, d *task.Definition, f fault.Fault) error
	Running(ctx context.Context, d *task.Definition, f fault.Fault) (bool, error)
}

// badRequest is an error in the words that the caller is told.
type badRequest string

func (e badRequest) Error() string { return string(e) }

// faultBody is what may be in a request: values as they came, so that an error
// can name them.
type faultBody struct {
	Port, Protocol, TrafficType           json.RawMessage
	DelayMilliseconds, JitterMilliseconds json.RawMessage
	LossPercent, FlowsPercent             json.RawMessage
	Sources, SourcesToFilter              json.RawMessage
}

// readFault reads a request's body (spec/host.md §1.17). To stop latency or loss,
// or to ask about it, none is needed; it is not looked at.
func readFault(kind, action string, body io.Reader) (fault.Fault, error) {
	f := fault.Fault{Kind: kind}
	if kind != fault.BlackholePort && action != "start" {
		return f, nil
	}
	text, err := io.ReadAll(io.LimitReader(body, maxBody))
	if err != nil {
		return f, badRequest("cannot read request body: " + err.Error())
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return f, badRequest("required request body is missing")
	}
	var b faultBody
	if err := json.Unmarshal(text, &b); err != nil {
		return f, badRequest("cannot decode request body: " + err.Error())
	}
	p := &parameters{}
	switch kind {
	case fault.BlackholePort:
		f.Port = uint16(p.number("Port", b.Port, 0, 1<<16-1))
		f.Protocol = p.word("Protocol", b.Protocol, "tcp", "udp")
		f.Direction = p.word("TrafficType", b.TrafficType, fault.Ingress, fault.Egress)
	case fault.Latency:
		f.DelayMilliseconds = p.number("DelayMilliseconds", b.DelayMilliseconds, 0, 1<<64-1)
		f.JitterMilliseconds = p.number("JitterMilliseconds", b.JitterMilliseconds, 0, 1<<64-1)
		f.Sources = p.addresses("Sources", b.Sources, true)
		if f.DelayMilliseconds == 0 && f.JitterMilliseconds == 0 {
			p.fail("required either DelayMilliseconds or JitterMilliseconds to be non-zero")
		}
	case fault.PacketLoss:
		f.LossPercent = int(p.number("LossPercent", b.LossPercent, 1, 100))
		f.Sources = p.addresses("Sources", b.Sources, true)
	}
	f.SourcesToFilter = p.addresses("SourcesToFilter", b.SourcesToFilter, false)
	if kind != fault.BlackholePort {
		f.FlowsPercent = 100
		if present(b.FlowsPercent) {
			f.FlowsPercent = int(p.number("flowsPercent", b.FlowsPercent, 1, 100)) // This one is spelt so in errors.
		}
	}
	return f, p.err
}

// parameters reads values; err is the first that was wrong.
type parameters struct{ err error }

func (p *parameters) fail(format string, args ...any) {
	if p.err == nil {
		p.err = badRequest(fmt.Sprintf(format, args...))
	}
}

func (p *parameters) missing(name string) { p.fail("required parameter %s is missing", name) }

func (p *parameters) invalid(name, value string) {
	p.fail("invalid value %s for parameter %s", value, name)
}

func present(value json.RawMessage) bool { return len(value) > 0 && string(value) != "null" }

func (p *parameters) number(name string, value json.RawMessage, from, to uint64) uint64 {
	if !present(value) {
		p.missing(name)
		return 0
	}
	n, err := strconv.ParseUint(string(value), 10, 64)
	if err != nil || n < from || n > to {
		p.invalid(name, string(value))
		return 0
	}
	return n
}

func (p *parameters) word(name string, value json.RawMessage, allowed ...string) string {
	var s string
	if present(value) && json.Unmarshal(value, &s) != nil {
		p.invalid(name, string(value))
		return ""
	}
	if s == "" {
		p.missing(name)
	} else if !slices.Contains(allowed, s) {
		p.invalid(name, s)
	}
	return s
}

// addresses are IPv4 and IPv6 addresses and prefixes.
func (p *parameters) addresses(name string, value json.RawMessage, required bool) []netip.Prefix {
	var all []string
	if present(value) && json.Unmarshal(value, &all) != nil {
		p.invalid(name, string(value))
		return nil
	}
	if len(all) == 0 && required {
		p.missing(name)
	}
	var out []netip.Prefix
	for _, s := range all {
		prefix, err := netip.ParsePrefix(s)
		if address, addressErr := netip.ParseAddr(s); addressErr == nil && address.Zone() == "" {
			address = address.Unmap()
			prefix, err = netip.PrefixFrom(address, address.BitLen()), nil
		}
		if err != nil || prefix.Addr().Is4In6() {
			p.invalid(name, s)
			continue
		}
		out = append(out, prefix.Masked())
	}
	return out
}
