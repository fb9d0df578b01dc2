// Package agent holds no code: it is the map of the tree, and the place of the
// tests that hold the tree to it.
//
// Berth is a host agent: it registers a host with an Amazon ECS cluster, runs the
// cluster's tasks straight on containerd, and reports what they use. A payload
// comes in as words of the wire, becomes a task.Definition once, walks down
// through the engine to the runtime, and its facts walk back up.
//
// The letter says what a package may import. W, words: the standard library and
// other words; no I/O beyond what the line says. A, adapter: words and the one
// foreign library it is the door to, no other adapter. C, conductor: words, the
// interfaces it declares, and adapters that live below it. R, root: where all
// comes together. T, for tests and tools only.
//
//	agent/attachment             C  what ECS attaches to the host: kept, waited for, reported
//	agent/awsapi                 A  the SDK's door: credentials, instance metadata, signatures
//	agent/cli                    R  berth's verbs, a file each
//	agent/cmd/berth              R  main: arguments to verb to exit code
//	agent/config                 W  file and environment to one Config; the only reader of the environment
//	agent/control                C  register, discover endpoints, keep sessions, send the outbox
//	agent/control/acs            A  payloads to task definitions, acknowledgements
//	agent/control/ecsapi         A  signed JSON 1.1 calls
//	agent/control/tcs            A  metrics and health to publish requests
//	agent/control/ws             A  websocket: dial, sign, deadlines; knows no ECS
//	agent/control/wstest         T  the far end of a websocket
//	agent/credentials            W  role credentials by id, in memory only
//	agent/daemon                 R  builds everything, starts in order, stops in reverse
//	agent/e2e                    T  stories against the built binary, localcluster and real containerd
//	agent/e2e/image              T  the image that stories, bench and demo run
//	agent/e2e/router             T  the log router of the stories
//	agent/e2e/pushimage          T  pushes it, for the demo
//	agent/e2e/bench              T  measures what Berth costs beside a bare containerd client
//	agent/drain                  C  takes the host out of service and back, when told or when EC2 announces
//	agent/engine                 C  one goroutine per task; carries out work; restores
//	agent/firelens               W  configurations of log routers, as text
//	agent/health                 W  parts report; one verdict for systemd, the CLI and TCS
//	agent/hostapi                A  unix-socket API and its client; the introspection API
//	agent/hostapi/hostapitest    T  a host API that answers from memory
//	agent/images                 C  removes images that no task needs, and makes room for a pull
//	agent/localcluster           A  a one-host ECS: API, ACS, TCS and image registry on loopback
//	agent/resources              C  what tasks need besides: secrets, environment files, registry credentials, volumes, log routers
//	agent/shape                  T  prints the figures of `make shape`
//	agent/store                  A  bbolt: tasks, outbox, what was learnt at registration
//	agent/systemd                A  notify and watchdog
//	agent/task                   W  a task, its containers, facts and work: the pure machine
//	agent/taskmeta               A  what containers ask at 169.254.170.2: metadata, credentials, statistics
//	agent/update                 A  other versions of this program: fetched, verified, switched to, and back
//	agent/update/sign            T  signs releases, for the release tool and tests
//	agent/wire/acs               W  messages of the agent communication service
//	agent/wire/ecs               W  messages of the ECS API
//	agent/wire/envelope          W  the frame around messages of ACS and TCS
//	agent/wire/tcs               W  messages of the telemetry service
//	ami                          T  what machine images are made by: provisioning, Packer
//	ami/vm                       T  boots the disk of a machine image in QEMU, for its test
//	ipam                         W  pools, leases, Plan: which address a container gets
//	ipam/ports                   W  host ports: reserves, really binds, never clashes
//	metrics                      W  Sample, Stats: what a measurement is
//	metrics/cgroup               A  cgroup v1 and v2 under a given root
//	metrics/netns                A  interface counters of a network namespace
//	metrics/prom                 A  OpenMetrics
//	metrics/sampler              C  one loop, held-open files, jittered
//	packaging                    T  the packages: units, scripts, and the tests that they agree with the code
//	packaging/machine            T  Debian machines with systemd, for tests
//	packaging/pages              T  man pages and completions, from the command line itself
//	packaging/release            T  makes signing keys, signs a directory of releases
//	runtime/await                T  has tests wait for what happens by itself
//	runtime/backoff              W  how long to wait before another try
//	runtime/cgroups              A  the tasks' own cgroups, as ECS names them
//	runtime/container            W  Spec, Status, Exit, Event, error kinds, Runtime: the contract
//	runtime/ctrd                 A  containerd: images, start, stop, exec, events, leftovers
//	runtime/ctrd/initproc        A  the init that containers may ask for
//	runtime/ctrd/ocifront        W  the front of the OCI runtime: adds secret variables, which it keeps in memory
//	runtime/durable              W  small files replaced in one step; synced as far as the caller says
//	runtime/fakert               A  a Runtime scripted per container
//	runtime/fault                W  Fault: what of a network is to go wrong
//	runtime/hostns               A  does things in the host's mounts for an agent that is shut in
//	runtime/logs                 A  the log process, its drivers, and reading logs back
//	runtime/logs/forwardtest     T  the far end of Fluentd's forward protocol
//	runtime/logs/awslogs         A  the log driver for CloudWatch Logs
//	runtime/network              A  makes a Plan true: namespaces, bridge, veth, nftables
//	runtime/network/faults       A  makes the network of a task bad on purpose: ports, latency, loss
//	runtime/runtimetest          T  conformance suite for any Runtime
//	runtime/volume               W  Volume, EFS, EBS, Place: what volumes are
//	runtime/volumes              A  volumes of tasks: directories, shared ones, EFS, EBS
//	runtime/vpc                  A  plays a VPC on one host, for berth local
//
// Directions: runtime, ipam and metrics never import agent. The engine imports
// neither wire, store, ctrd nor network: it declares what it needs. localcluster
// imports of ours only wire, so that the server cannot share the client's
// mistakes. Only roots and tests import the daemon. Each foreign library has one
// door. agent/layout_test.go holds all this, through other packages too.
//
// Where to look: what happens when a stop arrives during a pull
// (agent/task/testdata), what survives a crash (agent/store), which message
// carries a task (agent/wire/acs), why a port did not map (ipam/ports, then
// runtime/network), why it was built so (agent/docs/decisions).
package agent
