package daemon

import (
	"context"
	"net/netip"
	"sync"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/resources"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/agent/taskmeta"
	"github.com/berthd/berth/runtime/fault"
	"github.com/berthd/berth/runtime/network/faults"
)

var (
	_ taskmeta.Faults  = taskFaults{}
	_ resources.Faults = (*faults.Faults)(nil)
)

// hostFaults makes network faults, and knows whether this kernel can.
type hostFaults struct {
	*faults.Faults

	// supported asks the kernel, once.
	supported func() error
	probe     sync.WaitGroup // what begin began
}

// newHostFaults has tables beside the network's own.
func newHostFaults(table string, metadata netip.AddrPort, log *zap.Logger) *hostFaults {
	endpoint := netip.AddrPortFrom(netip.AddrFrom4([4]byte{169, 254, 170, 2}), 80)
	all := faults.New(faults.Config{Table: table + "-faults", Metadata: []netip.AddrPort{endpoint, metadata}})
	return &hostFaults{Faults: all, supported: sync.OnceValue(func() error {
		err := all.Supported()
		if err != nil {
			log.Info("fault injection is not advertised", zap.Error(err))
		}
		return err
	})}
}

// begin asks the kernel what it can while the tasks are adopted, so that the
// registration does not wait for that. close waits for the answer.
func (f *hostFaults) begin(c *config.Config) {
	if !c.External {
		f.probe.Go(func() { _ = f.supported() }) // canAll hears of it.
	}
}

// close waits for what was begun.
func (f *hostFaults) close() { f.probe.Wait() }

// canAll says whether this host can be offered for tasks that ask for faults.
func (f *hostFaults) canAll(c *config.Config) bool {
	return !c.External && f.supported() == nil
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

// taskFaults makes faults where a task is.
type taskFaults struct{ agent *agent }

// Start makes a fault.
func (t taskFaults) Start(ctx context.Context, d *task.Definition, f fault.Fault) error {
	return t.agent.host.faults.Start(ctx, t.place(d), f)
}

// Stop ends one.
func (t taskFaults) Stop(ctx context.Context, d *task.Definition, f fault.Fault) error {
	return t.agent.host.faults.Stop(ctx, t.place(d), f)
}

// Running looks for one.
func (t taskFaults) Running(ctx context.Context, d *task.Definition, f fault.Fault) (bool, error) {
	return t.agent.host.faults.Running(ctx, t.place(d), f)
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
