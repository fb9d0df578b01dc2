package packaging_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/packaging/machine"
)

// ordered is a task of two containers, of which one needs the other for as long as it runs. Both write into a file of the host what
// they are asked; the first one ends once it may.
const ordered = `{"family":"ordered","volumes":[{"name":"said","host":{"sourcePath":"/srv/said"}}],"containerDefinitions":[
{"name":"app","image":"127.0.0.1:4580/box:1","memory":32,"stopTimeout":100,"dependsOn":[{"containerName":"db","condition":"START"}],
"mountPoints":[{"sourceVolume":"said","containerPath":"/said"}],
"command":["sh","-c","trap 'echo app asked >>/said/log; while [ ! -e /said/go ]; do sleep 0.1; done; echo app ended >>/said/log; exit 3' TERM; touch /said/ready; while :; do sleep 0.1; done"]},
{"name":"db","image":"127.0.0.1:4580/box:1","memory":32,"mountPoints":[{"sourceVolume":"said","containerPath":"/said"}],
"command":["sh","-c","trap 'echo db asked >>/said/log; exit 4' TERM; while :; do sleep 0.1; done"]}]}`

// stubborn ignores that it is asked to end, and may for longer than the host does.
const stubborn = `{"family":"stubborn","containerDefinitions":[{"name":"deaf","image":"127.0.0.1:4580/box:1","memory":32,"stopTimeout":100,
"command":["sh","-c","trap '' TERM; while :; do sleep 0.1; done"]}]}`

// witness writes into the same file that systemd has begun to stop services.
const witness = `[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sh -c 'echo services end >>/srv/said/log'
`

// inService is what ECS holds of the only instance.
func (c *cluster) inService(instance string) string {
	c.t.Helper()
	return at(c.aws("describe-container-instances", "--cluster", "fleet", "--container-instances", instance), "containerInstances", "status")
}

func (c *cluster) awaitStatus(instance, want string) {
	c.t.Helper()
	c.until(time.Minute, func() error {
		if got := c.inService(instance); got != want {
			return &unexpected{got, want}
		}
		return nil
	})
}

type unexpected struct{ got, want string }

func (u *unexpected) Error() string { return "it is " + u.got + ", want " + u.want }

// shutter is a host whose shutdowns are looked at.
type shutter struct {
	*machine.Machine

	t        *testing.T
	c        *cluster
	instance string
}

// begin runs the task of two, and has the shutdown begin that it then delays.
func (s *shutter) begin(command string) (task string) {
	s.t.Helper()
	s.Run("systemctl start witness; rm -f /srv/said/*")
	task = s.c.run(ordered)
	s.Eventually(time.Minute, "test -e /srv/said/ready")
	s.Run(command)
	s.Eventually(time.Minute, "grep -q 'app asked' /srv/said/log")
	s.c.awaitStatus(s.instance, "DRAINING")
	return task
}

// said is who was asked to end, in order. The agent after one that was killed asks once more.
func (s *shutter) said(want string) {
	s.t.Helper()
	text, err := os.ReadFile(s.Root() + "/srv/said/log")
	lines := slices.Compact(strings.Split(strings.TrimSpace(string(text)), "\n"))
	if got := strings.Join(lines, ", "); err != nil || got != want {
		s.t.Errorf("in order: %s (%v), want %s", got, err, want)
	}
}

// locked waits until the agent has one lock of logind, as a person sees it.
func (s *shutter) locked() {
	s.t.Helper()
	s.Eventually(time.Minute, "test \"$(systemd-inhibit --list --no-legend --no-pager | grep -c '^Berth .*shutdown .*delay')\" = 1")
}

// A shutdown that logind announces waits for the tasks, which are asked in order while everything else still runs; the host is DRAINING
// meanwhile, and ACTIVE when the shutdown is cancelled, or after the boot. An agent that is killed in the middle goes on where it was.
func TestShutdownOnMachine(t *testing.T) {
	lan := machine.New(t, os.Getenv("BERTH_TEST_MACHINE"))
	p := build(t, "1.0.0")
	c := newCluster(t, lan, p)
	m := lan.Make(t, "host")
	m.Write("/etc/ecs/ecs.config", settings+"BERTH_SHUTDOWN_TIMEOUT=60s\n")
	m.Write("/etc/systemd/system/witness.service", witness)
	m.Write("/srv/said/log", "")
	m.Boot()
	reach(m)
	defer func() {
		if t.Failed() {
			said, _ := m.Try("journalctl --no-pager -o short-monotonic | tail -n 150")
			t.Logf("the journal:\n%s", said)
		}
	}()

	// The package has logind wait for long enough, and the agent has a lock at once, as a person sees it.
	m.Run("dpkg -i " + m.Put(p.deb))
	s := &shutter{m, t, c, c.awaitInstances(1)[0]}
	s.locked()
	if got := m.Run("busctl get-property org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager InhibitDelayMaxUSec"); got != "t 150000000" {
		t.Errorf("logind waits for %s", got)
	}

	// Whoever is another one: there is a lock, and one only.
	m.Run("systemctl restart berth")
	s.locked()
	m.Run("systemctl restart systemd-logind")
	s.locked()
	m.Run("kill -9 $(systemctl show --value -p MainPID berth)")
	s.locked()
	m.Run("systemctl stop berth")
	m.Eventually(time.Minute, "! systemd-inhibit --list --no-legend --no-pager | grep Berth")
	m.Run("systemctl start berth")
	s.locked()

	// A shutdown that is only planned changes nothing.
	m.Run("shutdown +1 && shutdown -c && ! journalctl -u berth --no-pager | grep 'a shutdown of this host has begun'")

	// One that fails when it would go on is over.
	task := s.begin("systemctl poweroff")
	m.Run("systemctl mask --quiet --runtime poweroff.target; touch /srv/said/go")
	c.await(task, "STOPPED")
	c.awaitStatus(s.instance, "ACTIVE")
	s.locked()
	s.said("app asked, app ended, db asked")
	if got := c.task(task, "stoppedReason"); !strings.Contains(got, "shutting down") {
		t.Errorf("the task stopped because of %q", got)
	}
	m.Run("systemctl unmask --quiet --runtime poweroff.target")

	// The agent is killed in the middle of the next one. Everything waits for the agent after it.
	task = s.begin("systemctl poweroff")
	killed := m.Run("systemctl show --value -p MainPID berth")
	m.Run("kill -9 " + killed)
	m.Eventually(time.Minute, "agent=$(systemctl show --value -p MainPID berth); test $agent != "+killed+" && journalctl _PID=$agent -o cat --no-pager | grep -q 'a shutdown of this host has begun'")
	s.locked()
	start := time.Now()
	m.Run("touch /srv/said/go")
	m.AwaitOff()
	t.Logf("from the last container's end to power off in %s", time.Since(start).Round(10*time.Millisecond))
	s.said("app asked, app ended, db asked, services end")
	if got := c.task(task, "lastStatus") + " " + c.inService(s.instance); got != "STOPPED DRAINING" {
		t.Errorf("the task and the host that is off are %s", got)
	}

	// After the boot it is what it was. Then somebody has it DRAINING, and it is that after the next boot.
	m.Boot()
	c.awaitStatus(s.instance, "ACTIVE")
	c.until(time.Minute, func() error { return connected(c, s.instance) })
	c.run(stubborn)
	c.aws("update-container-instances-state", "--cluster", "fleet", "--container-instances", s.instance, "--status", "DRAINING")
	m.Write("/etc/ecs/ecs.config", settings+"BERTH_SHUTDOWN_TIMEOUT=6s\n")
	m.Run("systemctl restart berth")
	s.locked()
	took := m.PowerOff()
	t.Logf("a host with a task that does not end, and 6 s for it, is off in %s", took.Round(10*time.Millisecond))
	if took > 80*time.Second { // Its container has 100.
		t.Error("that is too long")
	}
	if list := c.aws("list-tasks", "--cluster", "fleet")["taskArns"]; len(list.([]any)) > 0 { //nolint:forcetypeassert // the panic says as much
		t.Errorf("ECS was not told of the end of %v", list)
	}
	m.Boot()
	c.until(time.Minute, func() error { return connected(c, s.instance) })
	s.locked()
	if got := c.inService(s.instance); got != "DRAINING" {
		t.Errorf("the host that somebody drained is %s after a boot", got)
	}
}
