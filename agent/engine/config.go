package engine

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/ipam/ports"
	"github.com/berthd/berth/runtime/container"
)

// Config is what an Engine is made of. Runtime, Network, Cgroups, Logs, Store,
// Addresses, Ports and Log are needed; everything else has a useful zero.
type Config struct {
	Runtime   container.Runtime
	Network   Network
	Cgroups   Cgroups
	Logs      Logs
	Store     Store
	Addresses *ipam.Leases
	Ports     *ports.Table
	// LinkLocal, if set, has the addresses from which awsvpc tasks reach the agent;
	// without it such tasks are refused.
	LinkLocal *ipam.Leases
	Observer  Observer
	// Resources, if set, makes what tasks need besides.
	Resources Resources
	// Agents, if set, fits containers out for managed agents.
	Agents Agents
	Log    *zap.Logger

	// Reconciled, if set, is told each time the runtime has been compared, and
	// why it could not be.
	Reconciled func(err error)

	// Capacity is what tasks may use of the host.
	Capacity Capacity
	// Machine are the settings of the rules.
	Machine task.Options
	// MakeRoom, if set, is asked to have so many bytes free where images are kept,
	// before one is fetched that would not fit.
	MakeRoom func(ctx context.Context, bytes int64)
	// PullPolicy is ECS_IMAGE_PULL_BEHAVIOR; "" is default.
	PullPolicy container.PullPolicy
	// PullInactivity, PullResolve and PullTotal bound a pull; zero are the
	// runtime's own, and two hours.
	PullInactivity, PullResolve, PullTotal time.Duration
	// CreateTimeout and StartTimeout bound the runtime's answers; zero are 4 and 3
	// minutes.
	CreateTimeout, StartTimeout time.Duration
	// CleanupWait is how long a stopped task's containers are kept; zero is three
	// hours. CleanupJitter is added at random.
	CleanupWait, CleanupJitter time.Duration
	// DrainMin to DrainMax is how long container changes wait for a task change;
	// zero are 10 and 30 seconds.
	DrainMin, DrainMax time.Duration
	// Reconcile is how often the runtime is compared; zero is four seconds.
	Reconcile time.Duration
	// Starts is how many containers are created and started at once; zero is eight.
	Starts int
	// Region is put into the environment of containers that have none.
	Region string
	// PidsLimit bounds each task's processes; zero is no limit.
	PidsLimit int64
	// NoTaskLimits leaves the task-level CPU and memory limits out.
	NoTaskLimits bool
	// TaskMemoryLimitInContainers gives containers without a limit the task's.
	TaskMemoryLimitInContainers bool
}

// Capacity is what the host has for tasks: CPU units and MiB, as registered.
type Capacity struct{ CPU, Memory int64 }

// Network makes and unmakes a container's network. Every method is idempotent.
type Network interface {
	// Attach makes the endpoint true.
	Attach(ctx context.Context, e ipam.Endpoint) error
	// Detach removes all of it.
	Detach(ctx context.Context, e ipam.Endpoint) error
	// Sync removes what no endpoint of the plan wants and repairs what is missing.
	Sync(ctx context.Context, plan ipam.Plan) error
	// Mend repairs what all endpoints share if somebody has damaged it. plan
	// answers with the endpoints that are attached; it is called only then.
	Mend(ctx context.Context, plan func() ipam.Plan) error
	// NetNS is the path of the network namespace of a container.
	NetNS(id string) string
	// Files writes a container's hosts, resolv.conf and hostname and answers with
	// the mounts for them.
	Files(ctx context.Context, f Files) ([]container.Mount, error)
	// RemoveFiles deletes them.
	RemoveFiles(ctx context.Context, id string) error
}

// Files says what a container's hosts, resolv.conf and hostname hold.
type Files struct {
	ID, Hostname, Domainname string
	HostNetwork              bool
	// Shared says that several containers have these files: what is there already
	// stays as it is.
	Shared    bool
	Addresses ipam.Addresses
	Hosts     []task.Host
	DNS       task.DNS
}

// Cgroups makes the cgroup that parents a task's containers. Create and Remove
// are idempotent.
type Cgroups interface {
	Create(ctx context.Context, c TaskCgroup) error
	// Parent is what containers of the task have as their cgroup's parent.
	Parent(id string) string
	Remove(ctx context.Context, id string) error
}

// TaskCgroup is a task's cgroup: vCPU and bytes, zero for no limit.
type TaskCgroup struct {
	ID          string
	CPU         float64
	Shares      uint64
	MemoryBytes int64
	Pids        int64
	// AllowIMDS says that its containers, which share the host's network, may reach
	// instance metadata where that is closed to tasks.
	AllowIMDS bool
}

// Logs connects containers to the log process.
type Logs interface {
	// Open makes the pipes and returns once they are read. It is idempotent.
	Open(ctx context.Context, l LogStream) (container.IO, error)
	// Close ends the streams once everything in the pipes is written.
	Close(ctx context.Context, id string) error
	// Delivered returns once a log service has all that a closed container wrote. It
	// waits for as long as ctx allows.
	Delivered(ctx context.Context, id string) error
	// Remove deletes the pipes and what was logged.
	Remove(ctx context.Context, id string) error
}

// LogStream is a container's output and where it goes.
type LogStream struct {
	ID, Task, Name string
	Driver         string
	Options        map[string]string
	// Secrets are options that must never reach a disk.
	Secrets container.SecretOptions
	// Image and ImageID, Labels and Env are what drivers can be asked to add to
	// lines; secret variables are not among them.
	Image, ImageID string
	// Command is what the container runs.
	Command []string
	// RuntimeName is the name that users know the container by on its host.
	RuntimeName string
	Labels      map[string]string
	Env         []string
	Terminal    bool
	Stdin       bool
}

// Store keeps records and the outbox. Commit is one transaction, and has
// reached the disk when it returns; a nil record forgets the task.
type Store interface {
	Commit(task string, record []byte, changes ...task.Change) error
	Tasks() (map[string][]byte, error)
	// Waiting says whether ECS has still to take a change of the task.
	Waiting(task string) bool
}

// Observer is told what happens. It is called from the tasks' goroutines and
// must not block.
type Observer interface {
	// Changed is called with every new view of a task; the last one of a task has
	// Forgotten set.
	Changed(t Task)
	// Event is called for what a person would want to read.
	Event(e Event)
	// Pulling is called with the progress of a pull, the last time with the stage
	// "done", whatever came of it.
	Pulling(taskID, name string, p container.Progress)
}

// Event is something that happened to a task, for people.
type Event struct {
	Time      time.Time
	Task      string
	Container string
	What      string
	Detail    string
}

// nobody is the Observer of those who have none.
type nobody struct{}

func (nobody) Changed(Task)                              {}
func (nobody) Event(Event)                               {}
func (nobody) Pulling(_, _ string, _ container.Progress) {}

// withDefaults fills in the zero values.
func (c Config) withDefaults() Config {
	set := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	set(&c.PullTotal, 2*time.Hour)
	set(&c.CreateTimeout, 4*time.Minute)
	set(&c.StartTimeout, 3*time.Minute)
	set(&c.CleanupWait, 3*time.Hour)
	set(&c.DrainMin, 10*time.Second)
	set(&c.DrainMax, 30*time.Second)
	set(&c.Reconcile, 4*time.Second)
	if c.Starts <= 0 {
		c.Starts = 8
	}
	if c.PullPolicy == "" {
		c.PullPolicy = container.PullDefault
	}
	if c.Reconciled == nil {
		c.Reconciled = func(error) {}
	}
	if c.Observer == nil {
		c.Observer = nobody{}
	}
	if c.Resources == nil {
		c.Resources = nothing{}
	}
	return c
}
