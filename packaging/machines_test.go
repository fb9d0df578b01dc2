package packaging_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berthd/berth/agent/e2e/image"
	"github.com/berthd/berth/packaging/machine"
)

// cluster is a berth local outside the machines. They reach its registry at 127.0.0.1:4580 as well.
type cluster struct {
	t        *testing.T
	lan      *machine.LAN
	endpoint string
}

// pushName is set where this program is called to push the image from another network namespace.
const pushName = "BERTH_TEST_PUSH_IMAGE"

func pushImage(reference string) error {
	return image.Push(reference, v1.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}})
}

// newCluster starts a berth local of the packaged program.
func newCluster(t *testing.T, lan *machine.LAN, p packages) *cluster {
	t.Helper()
	if _, err := os.Stat("/usr/bin/aws"); err != nil {
		t.Skipf("needs aws: %v (make deps installs it)", err)
	}
	c := &cluster{t: t, lan: lan, endpoint: "http://" + machine.Gateway + ":4580"}
	program := filepath.Join(unpack(t, p.deb), "usr/lib/berth/package/berth")
	log, err := os.Create(filepath.Join(t.TempDir(), "local.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := lan.Command(context.WithoutCancel(t.Context()), program, "local", "--listen", machine.Gateway+":4580", "--state", t.TempDir())
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // It was killed.
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("berth local says:\n%s", text)
		}
	})
	c.until(20*time.Second, func() error {
		return lan.Command(t.Context(), "curl", "-sSf", "-m", "2", c.endpoint+"/_berth/health").Run()
	})
	c.push(machine.Gateway)
	c.aws("create-cluster", "--cluster-name", "fleet")
	return c
}

// push puts the image into the registry at an address.
func (c *cluster) push(address string) {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	push := c.lan.Command(c.t.Context(), self)
	push.Env = append(push.Environ(), pushName+"="+address+":4580/box:1")
	if out, err := push.CombinedOutput(); err != nil {
		c.t.Fatalf("cannot push the image: %v\n%s", err, out)
	}
}

// until tries until there is no error. Patience is for a machine that has nothing else to do.
func (c *cluster) until(patience time.Duration, try func() error) {
	c.t.Helper()
	patience *= machine.Slack
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			c.t.Fatalf("this did not come true in %s: %v", patience, err)
		}
	}
}

// aws calls ECS, and answers what it says as JSON without a form.
func (c *cluster) aws(args ...string) map[string]any {
	c.t.Helper()
	cmd := c.lan.Command(c.t.Context(), "/usr/bin/aws", append([]string{"--endpoint-url", c.endpoint, "--output", "json", "ecs"}, args...)...)
	cmd.Env = append(cmd.Environ(), "AWS_ACCESS_KEY_ID=berth", "AWS_SECRET_ACCESS_KEY=local", "AWS_DEFAULT_REGION=eu-west-1", "AWS_PAGER=")
	out, err := cmd.Output()
	if err != nil {
		if e, ok := err.(*exec.ExitError); ok { //nolint:errorlint // as exec returns it
			err = fmt.Errorf("%w: %s", err, e.Stderr)
		}
		c.t.Fatalf("aws ecs %v: %v", args, err)
	}
	answer := map[string]any{}
	if len(out) > 0 {
		if err := json.Unmarshal(out, &answer); err != nil {
			c.t.Fatalf("aws ecs %v: %v in %s", args, err, out)
		}
	}
	return answer
}

// at finds a value in JSON: keys of objects, and the first of each list on the way.
func at(v any, keys ...string) string {
	for _, key := range keys {
		if list, ok := v.([]any); ok && len(list) > 0 {
			v = list[0]
		}
		object, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = object[key]
	}
	if list, ok := v.([]any); ok && len(list) > 0 {
		v = list[0]
	}
	return fmt.Sprint(v)
}

// instances are the container instances whose agents are connected.
func (c *cluster) instances() []string {
	c.t.Helper()
	var arns []string
	list, _ := c.aws("list-container-instances", "--cluster", "fleet", "--filter", "agentConnected == true")["containerInstanceArns"].([]any)
	for _, arn := range list {
		arns = append(arns, fmt.Sprint(arn))
	}
	return arns
}

// awaitInstances waits until so many agents are connected.
func (c *cluster) awaitInstances(n int) []string {
	c.t.Helper()
	var arns []string
	c.until(time.Minute, func() error {
		if arns = c.instances(); len(arns) != n {
			return fmt.Errorf("%d agents are connected, want %d", len(arns), n)
		}
		return nil
	})
	return arns
}

// run runs a task definition and waits until the task is RUNNING; it answers its ARN.
func (c *cluster) run(definition string, options ...string) string {
	c.t.Helper()
	c.aws("register-task-definition", "--cli-input-json", definition)
	family := struct{ Family string }{}
	if err := json.Unmarshal([]byte(definition), &family); err != nil {
		c.t.Fatal(err)
	}
	task := at(c.aws(append([]string{"run-task", "--cluster", "fleet", "--task-definition", family.Family}, options...)...), "tasks", "taskArn")
	c.await(task, "RUNNING")
	return task
}

// runMany runs a task definition so many times and waits until all of them are RUNNING; it answers their ARNs.
func (c *cluster) runMany(definition string, n int) []string {
	c.t.Helper()
	c.aws("register-task-definition", "--cli-input-json", definition)
	family := struct{ Family string }{}
	if err := json.Unmarshal([]byte(definition), &family); err != nil {
		c.t.Fatal(err)
	}
	for rest := n; rest > 0; rest -= 10 {
		c.aws("run-task", "--cluster", "fleet", "--task-definition", family.Family, "--count", fmt.Sprint(min(rest, 10)))
	}
	return c.awaitRunning(n)
}

// awaitRunning waits until so many tasks run, and answers their ARNs.
func (c *cluster) awaitRunning(n int) []string {
	c.t.Helper()
	var arns []string
	c.until(2*time.Minute, func() error {
		arns = nil
		list, _ := c.aws("list-tasks", "--cluster", "fleet")["taskArns"].([]any)
		for _, arn := range list {
			arns = append(arns, fmt.Sprint(arn))
		}
		running := 0
		described, _ := c.aws(append([]string{"describe-tasks", "--cluster", "fleet", "--tasks"}, arns...)...)["tasks"].([]any)
		for _, task := range described {
			if at(task, "lastStatus") == "RUNNING" {
				running++
			}
		}
		if running != n {
			return fmt.Errorf("%d tasks are RUNNING, want %d", running, n)
		}
		return nil
	})
	return arns
}

// addresses are where tasks are reached from outside a host.
func (c *cluster) addresses(arns []string, host string) []string {
	c.t.Helper()
	var all []string
	described, _ := c.aws(append([]string{"describe-tasks", "--cluster", "fleet", "--tasks"}, arns...)...)["tasks"].([]any)
	for _, task := range described {
		all = append(all, host+":"+at(task, "containers", "networkBindings", "hostPort"))
	}
	return all
}

// task asks about a task.
func (c *cluster) task(arn string, keys ...string) string {
	c.t.Helper()
	return at(c.aws("describe-tasks", "--cluster", "fleet", "--tasks", arn), append([]string{"tasks"}, keys...)...)
}

func (c *cluster) await(task, status string) {
	c.t.Helper()
	c.until(90*time.Second, func() error {
		if s := c.task(task, "lastStatus"); s != status {
			return fmt.Errorf("the task is %s, want %s: %s", s, status, c.task(task, "stoppedReason"))
		}
		return nil
	})
}

// reach makes the registry be where an image's name says that it is, in the machine: at 127.0.0.1:4580. Registries elsewhere need TLS.
func reach(m *machine.Machine) {
	m.Write("/etc/systemd/system/cluster.socket", "[Socket]\nListenStream=127.0.0.1:4580\n[Install]\nWantedBy=sockets.target\n")
	m.Write("/etc/systemd/system/cluster.service", "[Service]\nExecStart=/lib/systemd/systemd-socket-proxyd "+machine.Gateway+":4580\n")
	m.Run("systemctl daemon-reload; systemctl enable --quiet --now cluster.socket")
}

// settings are a host's of the fleet.
const settings = `ECS_CLUSTER=fleet
ECS_BACKEND_HOST=http://` + machine.Gateway + `:4580
AWS_DEFAULT_REGION=eu-west-1
AWS_ACCESS_KEY_ID=berth
AWS_SECRET_ACCESS_KEY=local
AWS_EC2_METADATA_DISABLED=true
`

// counting is a task that answers on a port and writes a number each 20 ms: none may be missing, and none come twice.
const counting = `{"family":"counting","containerDefinitions":[{"name":"web","image":"127.0.0.1:4580/box:1","memory":64,
"linuxParameters":{"initProcessEnabled":true},"portMappings":[{"containerPort":80,"hostPort":8080}],
"command":["sh","-c","echo alive >/tmp/index.html; httpd -p 80 -h /tmp; i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done"]}]}`

// unbroken fails unless the numbers that the task wrote are all there.
func unbroken(t *testing.T, m *machine.Machine) {
	t.Helper()
	text := m.Run("berth logs $(berth ps --json | sed -n 's/.*\"id\": *\"\\([0-9a-f]\\{32\\}\\)\".*/\\1/p' | head -n 1)")
	lines := strings.Fields(text)
	for i, line := range lines {
		if line != fmt.Sprint(i) {
			t.Fatalf("line %d of the log is %s", i, line)
		}
	}
	if len(lines) < 10 {
		t.Errorf("the log has %d lines", len(lines))
	}
}

// A package is installed, upgraded, taken back, removed and purged, on a host whose task goes on through all but the last.
func TestPackageOnMachine(t *testing.T) {
	lan := machine.New(t, os.Getenv("BERTH_TEST_MACHINE"))
	older, newer := build(t, "1.0.0"), build(t, "1.1.0")
	c := newCluster(t, lan, older)
	m := lan.Boot(t, "host")
	reach(m)
	before := m.Run("ls -d /etc/* /usr/lib/* /var/lib/* /run/* /var/log/* /var/cache/*; getent group | cut -d: -f1")

	// Not configured: nothing starts, now or at the next boot, and it is said how it would.
	if said := m.Run("dpkg -i " + m.Put(older.deb)); !strings.Contains(said, "systemctl enable --now berth") {
		t.Errorf("the installation says:\n%s", said)
	}
	if got, _ := m.Try("systemctl is-active berth berth-logs; systemctl is-enabled berth berth-logs"); got != "inactive\ninactive\ndisabled\ndisabled" {
		t.Errorf("after the installation: %s", got)
	}
	m.Run("berth config --check; test \"$(stat -c %a /etc/ecs/ecs.config)\" = 600")

	m.Write("/etc/ecs/ecs.config", "# Settings of Berth\n"+settings)
	m.Run("systemctl enable --quiet --now berth")
	instance := c.awaitInstances(1)[0]
	task := c.run(counting)
	alive := func() {
		t.Helper()
		out, err := lan.Command(t.Context(), "curl", "-sS", "-m", "5", "http://"+m.Address+":8080/").CombinedOutput()
		if string(out) != "alive\n" {
			t.Fatalf("the task answers %q (%v)", out, err)
		}
	}
	c.until(10*time.Second, func() error {
		return lan.Command(t.Context(), "curl", "-sSf", "-m", "5", "http://"+m.Address+":8080/").Run()
	})
	httpd := m.Run("pgrep -o -x httpd")

	// Up and back. The agent is the new one at once, and everything else what it was.
	for _, step := range []struct {
		p       packages
		version string
	}{{newer, "1.1.0"}, {older, "1.0.0"}} {
		agent := m.Run("systemctl show --value -p MainPID berth")
		m.Run("dpkg -i " + m.Put(step.p.deb))
		if now := m.Run("systemctl show --value -p MainPID berth"); now == agent {
			t.Error("the agent was not restarted")
		}
		if got := m.Run("berth version; readlink /proc/$(systemctl show --value -p MainPID berth)/exe"); !strings.HasPrefix(got, "berth "+step.version) || !strings.HasSuffix(got, "/usr/lib/berth/versions/"+step.version+"/berth") {
			t.Errorf("after %s: %s", step.version, got)
		}
		alive()
		if now := m.Run("pgrep -o -x httpd"); now != httpd {
			t.Errorf("the task's process was %s and is %s", httpd, now)
		}
		if got := c.awaitInstances(1)[0]; got != instance {
			t.Errorf("it is another container instance: %s", got)
		}
		unbroken(t, m)
	}
	if got := m.Run("ls /usr/lib/berth/versions; readlink /usr/lib/berth/previous"); got != "1.0.0\n1.1.0\nversions/1.1.0" {
		t.Errorf("versions: %s", got)
	}

	// Removed: the agent is gone, the task and its logs go on.
	said := m.Run("dpkg -r berth")
	for _, want := range []string{"run on", "berth-logs.service goes on with their logs", "dpkg --purge berth"} {
		if !strings.Contains(said, want) {
			t.Errorf("the removal does not say %q:\n%s", want, said)
		}
	}
	if got, _ := m.Try("systemctl is-active berth berth-logs"); got != "inactive\nactive" {
		t.Errorf("after the removal: %s", got)
	}
	alive()
	if now := m.Run("pgrep -o -x httpd"); now != httpd {
		t.Errorf("the task's process was %s and is %s", httpd, now)
	}

	// Also when the log process dies meanwhile: systemd has what it needs to start another.
	logs := func(than string) string {
		t.Helper()
		return m.Eventually(30*time.Second, `p=$(systemctl show --value -p MainPID berth-logs)
readlink /proc/$p/exe | grep -q /versions/1.0.0/ && test $p != "`+than+`" && echo "$(systemctl show --value -p FragmentPath berth-logs) $p"`)
	}
	_, dies, _ := strings.Cut(logs(""), " ")
	m.Run("kill -KILL " + dies)
	goesOn := logs(dies)
	if !strings.HasPrefix(goesOn, "/run/systemd/system/berth-logs.service ") {
		t.Errorf("the log process goes on as %s", goesOn)
	}
	alive()

	// And installed again it is taken over, logs and all.
	m.Run("dpkg -i " + m.Put(older.deb))
	if now := logs(""); now != strings.Replace(goesOn, "/run/", "/lib/", 1) {
		t.Errorf("the log process was %s and is %s", goesOn, now)
	}
	if got := c.awaitInstances(1)[0]; got != instance {
		t.Errorf("it is another container instance: %s", got)
	}
	alive()
	unbroken(t, m)
	if status := c.task(task, "lastStatus"); status != "RUNNING" {
		t.Errorf("the task is %s", status)
	}

	// Purged: nothing is left, and it is said what there was.
	said = m.Run("dpkg --purge berth")
	for _, want := range []string{
		"removed 1 containers", "removed image 127.0.0.1:4580/box:1", "removed /var/lib/berth", "removed /run/berth", "removed the programs",
		"removed /etc/ecs/ecs.config", "removed the group berth",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the purge does not say %q:\n%s", want, said)
		}
	}
	if now, err := m.Try("pgrep -x 'httpd|berth'"); err == nil {
		t.Errorf("processes are left: %s", now)
	}
	for _, none := range []string{"ctr -n berth c ls -q", "ctr -n berth i ls -q", "ip -br link | grep -e berth -e veth", "nft list tables", "ls -d /sys/fs/cgroup/*/ecs", "dpkg -l berth"} {
		if got, _ := m.Try("{ " + none + "; } 2>/dev/null"); got != "" {
			t.Errorf("%s: %s", none, got)
		}
	}
	after := m.Run("ls -d /etc/* /usr/lib/* /var/lib/* /run/* /var/log/* /var/cache/*; getent group | cut -d: -f1")
	for line := range strings.Lines(after) {
		if !strings.Contains(before+"\n", line) && !strings.Contains("/var/log/dpkg.log\n", line) {
			t.Errorf("left: %s", line)
		}
	}
}
