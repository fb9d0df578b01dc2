package packaging_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/packaging/machine"
)

// polite is a task that ends with a code of its own when it is asked to, on a port that each host has once.
const polite = `{"family":"polite","containerDefinitions":[{"name":"web","image":"127.0.0.1:4580/box:1","memory":64,
"portMappings":[{"containerPort":80,"hostPort":8080}],
"command":["sh","-c","trap 'exit 7' TERM; echo serving; while :; do sleep 0.1; done"]}]}`

// greedy is a task that wants more memory than it may have.
const greedy = `{"family":"greedy","containerDefinitions":[{"name":"eater","image":"127.0.0.1:4580/box:1","memory":16,"command":["tail","/dev/zero"]}]}`

// ecsSettings are what hosts of the ECS agent have, with paths of its container and settings of Docker.
const ecsSettings = settings + `ECS_DATADIR=/data
ECS_LOGFILE=/log/ecs-agent.log
ECS_LOGLEVEL=info
ECS_AVAILABLE_LOGGING_DRIVERS=["json-file","awslogs"]
ECS_ENABLE_TASK_IAM_ROLE=true
ECS_CONTAINER_STOP_TIMEOUT=20s
`

// Hosts that had the ECS agent join a cluster with the settings that they have, and stay the same hosts through reboots and power cuts.
func TestFleetOnMachines(t *testing.T) {
	lan := machine.New(t, os.Getenv("BERTH_TEST_MACHINE"))
	p := build(t, "1.0.0")
	c := newCluster(t, lan, p)
	one, two := lan.Make(t, "one"), lan.Make(t, "two")
	for _, m := range []*machine.Machine{one, two} {
		m.Write("/etc/ecs/ecs.config", ecsSettings)
		m.Boot()
		reach(m)
	}

	// A configured host needs no more than the package.
	one.Run("dpkg -i " + one.Put(p.deb))
	first := c.awaitInstances(1)[0]
	if got := one.Run("cat /etc/ecs/ecs.config"); got != strings.TrimSpace(ecsSettings) {
		t.Errorf("the settings were changed:\n%s", got)
	}

	// Beside an ECS agent that lives Berth does not start, and says what to do. The package is installed all the same.
	two.Write("/srv/v1/metadata", `{"Cluster":"fleet","ContainerInstanceArn":"arn:aws:ecs:eu-west-1:0:container-instance/fleet/77","Version":"Amazon ECS Agent - v1.105.1 (*3f8e7a5c)"}`)
	two.Run("systemd-run --quiet --unit=ecs busybox httpd -f -p 127.0.0.1:51678 -h /srv")
	two.Eventually(10*time.Second, "curl -sSf -m 2 http://127.0.0.1:51678/v1/metadata")
	two.Run("dpkg -i " + two.Put(p.deb))
	two.Eventually(10*time.Second, "systemctl is-failed berth")
	said := two.Run("journalctl -u berth -o cat --no-pager; systemctl show -p ExecMainStatus berth")
	for _, want := range []string{"Amazon ECS Agent - v1.105.1", "--container-instances arn:aws:ecs:eu-west-1:0:container-instance/fleet/77 --status DRAINING", "systemctl disable --now ecs", "ExecMainStatus=5"} {
		if !strings.Contains(said, want) {
			t.Errorf("beside an ECS agent, %q is not said:\n%s", want, said)
		}
	}
	two.Run("systemctl stop ecs && systemctl start berth")
	c.awaitInstances(2)

	// The port is there once on each host: the two tasks are on two.
	tasks := map[string]string{} // by container instance
	for range 2 {
		task := c.run(polite)
		tasks[c.task(task, "containerInstanceArn")] = task
	}
	if len(tasks) != 2 {
		t.Fatalf("the tasks are not on two hosts: %v", tasks)
	}
	mine := tasks[first]
	delete(tasks, first)
	var second, other string
	for second, other = range tasks {
	}

	// The kernel kills what takes more memory than it may, and ECS is told so.
	c.aws("register-task-definition", "--cli-input-json", greedy)
	eater := at(c.aws("run-task", "--cluster", "fleet", "--task-definition", "greedy"), "tasks", "taskArn")
	c.await(eater, "STOPPED")
	if got := c.task(eater, "containers", "reason"); !strings.HasPrefix(got, "OutOfMemoryError: ") {
		t.Errorf("the task that ran out of memory: %s", got)
	}

	one.Eventually(10*time.Second, "berth logs "+mine+" | grep serving") // and heeds signals

	// Shut down in order, without a logind that would announce it: the task is asked to stop, and ECS knows before the host is gone.
	one.Run("systemctl mask --quiet --runtime --now systemd-logind")
	took := one.PowerOff()
	t.Logf("a host with a task shuts down in %s", took.Round(10*time.Millisecond))
	if got := c.task(mine, "lastStatus") + " " + c.task(mine, "containers", "exitCode"); got != "STOPPED 7" {
		t.Errorf("the task of the host that was shut down is %s", got)
	}
	if took > 45*time.Second {
		t.Error("that is too long")
	}
	start := time.Now()
	one.Boot()
	c.until(time.Minute, func() error { return connected(c, first) })
	t.Logf("from power on to connected in %s", time.Since(start).Round(10*time.Millisecond))
	if got := one.Run("berth ps --json; ctr -n berth t ls -q"); strings.Contains(got, "RUNNING") {
		t.Errorf("a phantom task: %s", got)
	}

	// The power is cut: the task's end is known after the boot, and nothing is left of it.
	two.Cut()
	two.Boot()
	c.until(time.Minute, func() error { return connected(c, second) })
	c.await(other, "STOPPED")
	two.Eventually(20*time.Second, "test -z \"$(ctr -n berth t ls -q)\" && test -z \"$(ls /run/berth/netns)\"")
	if n := len(c.awaitInstances(2)); n != 2 {
		t.Errorf("%d container instances", n)
	}
	c.run(polite)

	// The settings were here before the package, and stay.
	said = two.Run("dpkg --purge berth; cat /etc/ecs/ecs.config")
	if !strings.Contains(said, "left /etc/ecs/ecs.config") || !strings.HasSuffix(said, strings.TrimSpace(ecsSettings)) {
		t.Errorf("the purge says:\n%s", said)
	}
}

var errNotConnected = errors.New("the agent is not connected")

// connected fails unless the instance's agent is.
func connected(c *cluster, instance string) error {
	if strings.Contains(strings.Join(c.instances(), " "), instance) {
		return nil
	}
	return errNotConnected
}
