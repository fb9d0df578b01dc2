package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/resources"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/agent/taskmeta"
	"github.com/berthd/berth/runtime/network/faults"
)

var (
	_ taskmeta.Faults  = taskFaults{}
	_ resources.Faults = (*faults.Faults)(nil)
)

// hostFaults makes network faults, and knows whether this kernel can.
type hostFaults struct {
	*faults.Faults

	log  *zap.Logger
	once sync.Once // asks the kernel
	able bool
}

// newHostFaults has tables beside the network's own.
func newHostFaults(table string, metadata netip.AddrPort, log *zap.Logger) *hostFaults {
	endpoint := netip.AddrPortFrom(netip.AddrFrom4([4]byte{169, 254, 170, 2}), 80)
	return &hostFaults{
		Faults: faults.New(faults.Config{Table: table + "-faults", Metadata: []netip.AddrPort{endpoint, metadata}}), log: log,
	}
}

// canAll says whether this host can be offered for tasks that ask for faults.
func (f *hostFaults) canAll(c *config.Config) bool {
	if c.External {
		return false
	}
	f.once.Do(func() {
		err := f.Supported()
		if f.able = err == nil; err != nil {
			f.log.Info("fault injection is not advertised", zap.Error(err))
		}
	})
	return f.able
}

// sweepFaults ends faults in the host's namespace of tasks that nobody knows.
func (a *agent) sweepFaults(ctx context.Context) {
	known := map[string]bool{}
	for _, t := range a.engine.Tasks() {
		known[t.ID()] = true
	}
	if err := a.host.faults.Sweep(ctx, func(id string) bool { return known[id] }); err != nil {
		a.log.Warn("network faults may be left", zap.Error(err))
	}
}

// taskFaults is runtime/network/faults in the words of containers.
type taskFaults struct{ agent *agent }

// Start makes a fault.
func (t taskFaults) Start(ctx context.Context, d *task.Definition, f taskmeta.Fault) error {
	return told(t.agent.host.faults.Start(ctx, t.place(d), faults.Fault(f)))
}

// Stop ends one.
func (t taskFaults) Stop(ctx context.Context, d *task.Definition, f taskmeta.Fault) error {
	return told(t.agent.host.faults.Stop(ctx, t.place(d), faults.Fault(f)))
}

// Running looks for one.
func (t taskFaults) Running(ctx context.Context, d *task.Definition, f taskmeta.Fault) (bool, error) {
	running, err := t.agent.host.faults.Running(ctx, t.place(d), faults.Fault(f))
	return running, told(err)
}

// place is where a task's faults are: on its own interface, or in the host's
// namespace.
func (t taskFaults) place(d *task.Definition) faults.Place {
	p := faults.Place{Task: d.ID}
	if d.Network == task.NetworkAWSVPC {
		p.NetNS, p.Links = t.agent.taskNetNS(d), []string{"eth0"}
	}
	return p
}

// told gives an error the kind that its answer depends on.
func told(err error) error {
	if running, ok := errors.AsType[*faults.RunningError](err); ok {
		return &taskmeta.FaultRunningError{Kind: running.Kind}
	}
	switch {
	case errors.Is(err, faults.ErrNoLink):
		return fmt.Errorf("%w: %w", taskmeta.ErrNoFaultLink, err)
	case errors.Is(err, faults.ErrNoNamespace):
		return fmt.Errorf("%w: %w", taskmeta.ErrNoFaultNetwork, err)
	}
	return err
}
