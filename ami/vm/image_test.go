package vm_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/agent/wire/ecs"
	"github.com/berthd/berth/ami/vm"
)

const (
	region   = "eu-west-1"
	instance = "i-0be27be27be27be27"
	// What a task's network interface is.
	taskMAC, taskAddress = "06:be:27:00:00:20", "10.214.0.20"
)

// userData is an operator's. The registry is at 127.0.0.1:4580 in the machine too: registries elsewhere need TLS.
const userData = `#!/bin/sh
cat >>/etc/ecs/ecs.config <<END
ECS_CLUSTER=fleet
ECS_BACKEND_HOST=http://` + vm.Gateway + `:4580
END
printf '[Socket]\nListenStream=127.0.0.1:4580\n[Install]\nWantedBy=sockets.target\n' >/etc/systemd/system/registry.socket
printf '[Service]\nExecStart=/lib/systemd/systemd-socket-proxyd ` + vm.Gateway + `:4580\n' >/etc/systemd/system/registry.service
systemctl daemon-reload
systemctl enable --quiet --now registry.socket
`

// Tasks.
const (
	// limited answers on a port, within limits of its own and of its task.
	limited = `{"family":"limited","cpu":"512","memory":"128","containerDefinitions":[{"name":"web","image":"127.0.0.1:4580/box:1",
"cpu":256,"memory":64,"memoryReservation":48,"portMappings":[{"containerPort":80,"hostPort":8080}],
"command":["sh","-c","trap 'exit 7' TERM; httpd -p 80 -h /www; while :; do sleep 0.2; done"]}]}`
	// greedy wants more memory than it may have.
	greedy = `{"family":"greedy","containerDefinitions":[{"name":"eater","image":"127.0.0.1:4580/box:1","memory":16,
"command":["sh","-c","tail /dev/zero"]}]}`
	// ordered has a container that another one depends on. It says by its exit code whether that one was gone when it was stopped.
	ordered = `{"family":"ordered","networkMode":"host","containerDefinitions":[
{"name":"db","image":"127.0.0.1:4580/box:1","memory":16,
"command":["sh","-c","trap 'wget -q -O /dev/null http://127.0.0.1:9000/ && exit 9; exit 7' TERM; while :; do sleep 0.2; done"]},
{"name":"app","image":"127.0.0.1:4580/box:1","memory":16,"dependsOn":[{"containerName":"db","condition":"START"}],
"command":["sh","-c","trap 'sleep 1; exit 5' TERM; httpd -p 127.0.0.1:9000 -h /www; while :; do sleep 0.2; done"]}]}`
	// distant has a network interface, and may make its network bad.
	distant = `{"family":"distant","networkMode":"awsvpc","enableFaultInjection":true,"containerDefinitions":[{"name":"web","image":"127.0.0.1:4580/box:1",
"memory":32,"command":["httpd","-f","-p","80","-h","/www"]}]}`
	latency = `{"DelayMilliseconds":1500,"JitterMilliseconds":0,"Sources":["` + vm.Subnet + `"]}`
)

// times are what operators ask about, in seconds. Those of the boots begin when the power comes on.
type times struct {
	BootToLogin       float64 `json:"bootToLoginSeconds"`
	BootToRegistered  float64 `json:"bootToRegisteredSeconds"`
	BootToRunning     float64 `json:"bootToFirstTaskRunningSeconds"`
	ShutdownWithTasks float64 `json:"shutdownWithTasksSeconds"`
	RebootToConnected float64 `json:"rebootToConnectedSeconds"`
	CutToConnected    float64 `json:"powerOnAfterCutToConnectedSeconds"`
	CutToRunning      float64 `json:"powerOnAfterCutToTaskRunningSeconds"`
	Accelerator       string  `json:"accelerator"`
}

// seconds are those of a report: a tenth is enough.
func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*10) / 10 }

func since(start time.Time) float64 { return seconds(time.Since(start)) }

// host is the machine in its cluster.
type host struct {
	*cluster

	vm    *vm.Machine
	arn   string
	times times
}

// An operator boots the image: the host joins the cluster of its user data in its own name, runs tasks within limits that the kernel
// holds, and is the same host after a reboot and after a power cut, without a task that nobody sees.
func TestImage(t *testing.T) {
	m := vm.New(t, os.Getenv("BERTH_TEST_IMAGE"), "6G", &vm.Instance{
		ID: instance, Region: region, UserData: userData, Role: "berth-host", AccessKey: "ASIABERTHHOST", SecretKey: "secret",
	})
	h := &host{vm: m, times: times{Accelerator: "qemu-tcg"}}
	h.cluster = newCluster(t, func(string) (*acs.ENI, error) {
		return &acs.ENI{
			EC2ID: "eni-0be27be27be27be20", MACAddress: taskMAC, Name: "eth0", InterfaceAssociationProtocol: acs.AssociationDefault,
			IPv4Addresses:            []acs.IPv4Address{{PrivateAddress: taskAddress, Primary: true}},
			SubnetGatewayIPv4Address: vm.Gateway + "/24", PrivateDNSName: "ip-10-214-0-20.eu-west-1.compute.internal",
		}, m.Plug(taskMAC)
	})
	defer func() {
		if t.Failed() {
			said, _ := m.Try("systemctl --failed --no-legend; journalctl --no-pager -o short-monotonic -u berth -u berth-logs -u cloud-final | tail -n 80")
			t.Logf("the journal:\n%s", said)
		}
	}()

	web := h.joins()
	h.isItself()
	h.limits(web)
	h.runsOut()
	h.hasInterfaces()
	h.delays()
	stack := h.run(ordered)
	h.await(stack, ecs.StatusRunning)
	h.reboots(web, stack)
	last := h.losesPower()

	took := m.PowerOff()
	t.Logf("powered off in %.1f s", took.Seconds())
	if got := told(new(h.task(last))); !strings.Contains(got, "web exit code 7") {
		t.Errorf("the task of the host that was shut down: %s", got)
	}
	h.report()
}

// joins boots the machine for the first time and runs a task as soon as there is a host.
func (h *host) joins() (web string) {
	h.t.Helper()
	start := h.vm.Boot()
	h.times.BootToLogin = since(start)
	h.arn = h.awaitHost().ContainerInstanceARN
	h.times.BootToRegistered = since(start)
	web = h.run(limited)
	h.await(web, ecs.StatusRunning)
	h.times.BootToRunning = since(start)
	h.t.Logf("boot to registered %.1f s, to first task RUNNING %.1f s", h.times.BootToRegistered, h.times.BootToRunning)
	h.answers(vm.Address + ":8080")
	return web
}

// answers fails unless a web server of the image says its words.
func (h *host) answers(address string) {
	h.t.Helper()
	h.until(func() error {
		body, err := get(h.t, address)
		if err == nil && body != "hello from berth\n" {
			err = fmt.Errorf("%s answers %q", address, body)
		}
		return err
	})
}

// isItself looks at what the image made of the machine at its first boot.
func (h *host) isItself() {
	h.t.Helper()
	if n := len(must[ecs.ListContainerInstancesResponse](h.cluster, "ListContainerInstances", map[string]any{"cluster": "default"}).ContainerInstanceARNs); n > 0 {
		h.t.Error("it joined the cluster default before it read its user data")
	}
	if got := h.awaitHost().EC2InstanceID; got != instance {
		h.t.Errorf("it says that it is %q", got)
	}
	h.vm.Eventually(patience, "case $(systemctl is-system-running) in running) ;; *) systemctl list-jobs; systemctl --failed; exit 1;; esac")
	h.t.Logf("the first boot:\n%s", h.vm.Run("systemd-analyze time; systemd-analyze blame | head -n 8"))
	for line, want := range map[string]string{
		"stat -f -c %T /sys/fs/cgroup": "cgroup2fs",
		"hostname":                     "ip-10-214-0-11",
		"jq -r .v1.datasource /var/lib/cloud/data/result.json 2>/dev/null || sed -n 's/.*\"datasource\": \"\\(DataSourceEc2\\).*/\\1/p' /var/lib/cloud/data/result.json": "DataSourceEc2",
		"wc -c </etc/machine-id": "33",
		"test $(df --output=size -m / | tail -n 1) -gt 5000 && echo grown": "grown",
		"ls /etc/ssh/ssh_host_*_key | wc -l":                               "2",
		"apt-mark showhold | sort | tr '\\n' ' '":                          "containerd runc",
		"dpkg -l | grep -c docker":                                         "0",
		"readlink -f /usr/bin/berth | cut -d / -f 1-5":                     "/usr/lib/berth/versions",
		"systemctl is-enabled berth":                                       "disabled",
		"systemctl is-active berth berth-logs containerd":                  "active\nactive\nactive",
	} {
		if got, _ := h.vm.Try(line); got != want {
			h.t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}

// limits asks the kernel what the task may use.
func (h *host) limits(web string) {
	h.t.Helper()
	id := path.Base(web)
	h.vm.Run("systemctl set-property --runtime ecstasks.slice MemoryMax=400M")
	group := strings.TrimPrefix(h.vm.Run("cat /proc/$(pgrep -o -x httpd)/cgroup"), "0::")
	if !strings.HasPrefix(group, "/ecstasks.slice/") || !strings.Contains(path.Dir(group), id) {
		h.t.Errorf("the container's cgroup is %s", group)
	}
	for file, want := range map[string]string{
		group + "/memory.max": "67108864", group + "/memory.low": "50331648", group + "/cpu.weight": "10",
		path.Dir(group) + "/memory.max": "134217728", path.Dir(group) + "/cpu.max": "50000 100000",
		"/ecstasks.slice/memory.max":                 "419430400",
		"/berth.slice/memory.min":                    "67108864",
		"/berth.slice/berth.service/memory.min":      "50331648",
		"/berth.slice/berth-logs.service/memory.min": "16777216",
	} {
		if got, _ := h.vm.Try("cat /sys/fs/cgroup" + file); got != want {
			h.t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
	h.vm.Run("systemctl set-property --runtime ecstasks.slice MemoryMax=infinity")
}

// runsOut has a container killed by the kernel.
func (h *host) runsOut() {
	h.t.Helper()
	task := h.await(h.run(greedy), ecs.StatusStopped)
	if got := told(&task); !strings.Contains(got, "eater exit code 137 OutOfMemoryError: Container killed due to memory usage") {
		h.t.Errorf("the task that ran out of memory: %s", got)
	}
}

// hasInterfaces gives a task an interface of its own, and has it delay its packets, which takes a kernel with modules.
func (h *host) hasInterfaces() {
	h.t.Helper()
	advertised := map[string]bool{}
	for _, a := range h.awaitHost().Attributes {
		advertised[a.Name] = true
	}
	for _, name := range []string{"ecs.capability.task-eni", "ecs.capability.fault-injection"} {
		if !advertised[name] {
			h.t.Errorf("%s is not advertised", name)
		}
	}
	task := h.run(distant)
	h.await(task, ecs.StatusRunning)
	h.answers(taskAddress)
	if links := h.vm.Run("ip -br link; ip -br addr"); strings.Contains(links, taskMAC) {
		h.t.Errorf("the task's interface is the host's:\n%s", links)
	}
	fault := func(what, body string) string {
		return h.vm.Run("berth exec " + path.Base(task) + "/web -- sh -c 'wget -q -O - --post-data '\\''" + body + "'\\'' $ECS_AGENT_URI/fault/v1/network-latency/" + what + "'")
	}
	if got := fault("start", latency); got != `{"Status":"running"}` {
		h.t.Errorf("the fault: %s", got)
	}
	start := time.Now()
	h.answers(taskAddress)
	if slow := since(start); slow < 1.5 {
		h.t.Errorf("the answer of a task with latency comes after %.1f s", slow)
	}
	if got := fault("stop", latency); got != `{"Status":"stopped"}` {
		h.t.Errorf("the fault: %s", got)
	}
	h.stop(task)
	h.vm.Eventually(patience, "ip -br link | grep -q "+taskMAC) // It is the host's again, for EC2 to detach.
}

// delays runs the test of delayed packets, for which this machine's kernel need not be able to.
func (h *host) delays() {
	h.t.Helper()
	program := filepath.Join(h.t.TempDir(), "faults.test")
	build := exec.CommandContext(h.t.Context(), "go", "test", "-c", "-tags", "netem", "-trimpath", "-ldflags", "-s -w", "-o", program,
		"github.com/berthd/berth/runtime/network/faults")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		h.t.Fatalf("cannot build a test: %v\n%s", err, out)
	}
	h.vm.Put(program, "/var/tmp/faults.test")
	if out, err := h.vm.Try("/var/tmp/faults.test -test.v -test.run '^TestLatency$'; code=$?; rm /var/tmp/faults.test; exit $code"); err != nil ||
		!strings.Contains(out, "--- PASS: TestLatency") {
		h.t.Errorf("packets are not delayed as they should be: %v\n%s", err, out)
	}
}

// reboots has the machine shut down in order, with tasks, and come back.
func (h *host) reboots(web, stack string) {
	h.t.Helper()
	start, down := h.vm.Reboot()
	h.times.ShutdownWithTasks = seconds(down)
	// ECS knew before the machine was gone: it has been asked nothing since.
	for task, want := range map[string]string{web: "web exit code 7", stack: "app exit code 5"} {
		described := h.task(task)
		if got := told(&described); described.LastStatus != ecs.StatusStopped || !strings.Contains(got, want) {
			h.t.Errorf("a task of the host that rebooted is %s: %s", described.LastStatus, got)
		}
	}
	if got := told(new(h.task(stack))); !strings.Contains(got, "db exit code 7") {
		h.t.Errorf("a container was stopped before the one that depends on it: %s", got)
	}
	h.returns()
	h.times.RebootToConnected = since(start.Add(down))
	h.t.Logf("shut down with 2 tasks in %.1f s, connected %.1f s later", down.Seconds(), h.times.RebootToConnected)
}

// returns waits until the host is connected again, as itself and without a task.
func (h *host) returns() {
	h.t.Helper()
	h.until(func() error {
		if h.awaitHost().ContainerInstanceARN != h.arn {
			h.t.Fatal("it is another container instance")
		}
		// What the cluster remembers of the last connection is not the new one.
		if _, err := h.vm.Try("curl -sSf -m 5 http://127.0.0.1:51678/v1/metadata"); err != nil {
			return errors.New("the agent is not up")
		}
		return nil
	})
	if host := h.awaitHost(); host.RunningTasksCount+host.PendingTasksCount > 0 {
		h.t.Errorf("the host has %d running and %d pending tasks", host.RunningTasksCount, host.PendingTasksCount)
	}
	if got := h.vm.Run("ctr -n berth t ls -q; ls /run/berth/netns 2>/dev/null; pgrep -x httpd || true"); got != "" {
		h.t.Errorf("of tasks there is left: %s", got)
	}
}

// losesPower cuts the power while tasks run, in the middle of whatever the machine does.
func (h *host) losesPower() (last string) {
	h.t.Helper()
	web, stack := h.run(limited), h.run(ordered)
	h.await(web, ecs.StatusRunning)
	h.await(stack, ecs.StatusRunning)
	h.vm.Cut()
	start := h.vm.Boot()
	for _, task := range []string{web, stack} {
		described := h.await(task, ecs.StatusStopped)
		if described.StoppedReason == "" {
			h.t.Errorf("the task has no reason to be stopped: %s", told(&described))
		}
		h.t.Logf("after the power cut: %s", told(&described))
	}
	h.returns()
	h.times.CutToConnected = since(start)
	last = h.run(limited)
	h.await(last, ecs.StatusRunning)
	h.times.CutToRunning = since(start)
	h.answers(vm.Address + ":8080")
	h.t.Logf("power on after the cut to connected %.1f s, to a task RUNNING %.1f s", h.times.CutToConnected, h.times.CutToRunning)
	return last
}

// report says how long everything took, also in a file for whoever asks for it.
func (h *host) report() {
	h.t.Helper()
	text, err := json.MarshalIndent(h.times, "", "  ")
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Logf("times: %s", text)
	if file := os.Getenv("BERTH_IMAGE_TIMES"); file != "" {
		if err := os.WriteFile(file, append(text, '\n'), 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
}
