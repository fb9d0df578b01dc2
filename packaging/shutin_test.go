package packaging_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/packaging/machine"
)

// everything is a task that uses what an agent that is shut in could do wrong: volumes of every kind, one of them filled by the image with a
// setuid program, memory that containers share, a GPU, all capabilities, ECS Exec, metadata, credentials, a fault, and a health check that
// has to be killed and is another user's.
const everything = `{"family":"everything","networkMode":"awsvpc","ipcMode":"task","pidMode":"task","enableFaultInjection":true,
"taskRoleArn":"arn:aws:iam::000000000000:role/all",
"volumes":[{"name":"own","dockerVolumeConfiguration":{"scope":"task"}},{"name":"made","host":{"sourcePath":"/home/made/by/berth"}},
 {"name":"files","efsVolumeConfiguration":{"fileSystemId":"fs-1","transitEncryption":"ENABLED"}}],
"containerDefinitions":[
 {"name":"all","image":"127.0.0.1:4580/box:1","memory":32,"stopTimeout":2,"linuxParameters":{"tmpfs":[{"containerPath":"/scratch","size":1}]},
  "mountPoints":[{"sourceVolume":"own","containerPath":"/opt"},{"sourceVolume":"made","containerPath":"/out"},{"sourceVolume":"files","containerPath":"/files"}],
  "command":["sh","-c","echo $(stat -c %a:%g /opt /opt/su) >/out/filled; touch /files/here /scratch/here /dev/shm/here; wget -q -O /out/metadata $ECS_CONTAINER_METADATA_URI_V4; wget -q -O /out/keys http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI; wget -q -O /out/fault --header Content-Type:application/json --post-data {\\\"Port\\\":81,\\\"Protocol\\\":\\\"tcp\\\",\\\"TrafficType\\\":\\\"egress\\\"} $ECS_AGENT_URI/fault/v1/network-blackhole-port/start; echo done >/out/all; exec sleep 1000"]},
 {"name":"gpu","image":"127.0.0.1:4580/box:1","memory":32,"stopTimeout":2,"resourceRequirements":[{"type":"GPU","value":"1"}],"mountPoints":[{"sourceVolume":"made","containerPath":"/out"}],
  "command":["sh","-c","stat -c %t:%T /dev/nvidia0 >/out/gpu; exec sleep 1000"]},
 {"name":"root","image":"127.0.0.1:4580/box:1","memory":32,"stopTimeout":2,"privileged":true,"mountPoints":[{"sourceVolume":"made","containerPath":"/out"}],
  "command":["sh","-c","grep CapEff /proc/self/status >/out/root; ls /dev/nvidia0 >>/out/root; exec sleep 1000"]},
 {"name":"slow","image":"127.0.0.1:4580/box:1","memory":32,"stopTimeout":2,"user":"1000","command":["sleep","1000"],
  "healthCheck":{"command":["CMD-SHELL","sleep 1234 & sleep 1235"],"interval":5,"timeout":2,"retries":1}}]}`

// served is a task that has a port of the host's that is kept for root, and another in host mode asks for its keys.
const (
	served = `{"family":"served","containerDefinitions":[{"name":"web","image":"127.0.0.1:4580/box:1","memory":32,"stopTimeout":2,
"portMappings":[{"containerPort":80,"hostPort":80}],"command":["httpd","-f","-p","80","-h","/www"]}]}`
	onHost = `{"family":"onhost","networkMode":"host","taskRoleArn":"arn:aws:iam::000000000000:role/host","volumes":[{"name":"made","host":{"sourcePath":"/home/made/by/berth"}}],
"containerDefinitions":[{"name":"ask","image":"127.0.0.1:4580/box:1","memory":32,"stopTimeout":2,"mountPoints":[{"sourceVolume":"made","containerPath":"/out"}],
 "command":["sh","-c","wget -q -O /out/hostkeys http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI; exec sleep 1000"]}]}`
)

// What is attached to the host is announced, and comes with the task, in messages that berth local does not make by itself.
const (
	attachment = `"attachmentArn":"arn:aws:ecs:us-east-1:000000000000:attachment/bb22","attachmentType":"amazonebs","attachmentProperties":[
{"name":"volumeId","value":"vol-0abc"},{"name":"volumeSizeGib","value":"1"},{"name":"deviceName","value":"%s"},{"name":"sourceVolumeHostPath","value":"0001_vol-0abc"},
{"name":"volumeName","value":"data"},{"name":"fileSystem","value":"ext4"}]`
	announced = `{"type":"ConfirmAttachmentMessage","message":{"messageId":"c1","clusterArn":"arn:aws:ecs:us-east-1:000000000000:cluster/fleet",
"containerInstanceArn":"arn:aws:ecs:us-east-1:000000000000:container-instance/fleet/x","taskArn":"arn:aws:ecs:us-east-1:000000000000:task/fleet/00000000000000000000000000000001",
"waitTimeoutMs":300000,"attachment":{` + attachment + `}}}`
	disk = `{"type":"PayloadMessage","message":{"messageId":"p1","clusterArn":"arn:aws:ecs:us-east-1:000000000000:cluster/fleet",
"containerInstanceArn":"arn:aws:ecs:us-east-1:000000000000:container-instance/fleet/x","tasks":[{"arn":"arn:aws:ecs:us-east-1:000000000000:task/fleet/00000000000000000000000000000001",
"family":"disk","version":"1","desiredStatus":"RUNNING","volumes":[{"name":"data","type":"attachment"}],"attachments":[{` + attachment + `}],
"containers":[{"name":"x","image":"127.0.0.1:4580/box:1","essential":true,"memory":32,"mountPoints":[{"sourceVolume":"data","containerPath":"/data"}],
"dockerConfig":{"config":"{\"User\":\"1000\"}"},"command":["sh","-c","trap exit TERM; echo written >/data/note; while true; do sleep 0.1; done"]}]}]}}`
)

// mountEFS stands in for the mount helper of EFS: it binds a directory.
const mountEFS = `#!/bin/sh
mkdir -p "/srv/efs/$1" && exec mount --bind "/srv/efs/$1" "$2"
`

// diskOf makes a disk on this host and puts it into the machine. The machine's /dev is its own.
func diskOf(t *testing.T, m *machine.Machine) (device string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 64<<20); err != nil {
		t.Fatal(err)
	}
	device = strings.TrimSpace(output(t, "losetup", "--find", "--show", file))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("cannot detach %s: %v: %s", device, err, out)
		}
	})
	m.Run(fmt.Sprintf("mknod %s b 7 %s", device, strings.TrimPrefix(device, "/dev/loop")))
	return device
}

// clusterOn starts a berth local on the machine itself, which plays its VPC, with the image in its registry.
func clusterOn(t *testing.T, lan *machine.LAN, m *machine.Machine) *cluster {
	t.Helper()
	c := &cluster{t: t, lan: lan, endpoint: "http://" + m.Address + ":4580"}
	m.Run("systemd-run --quiet --unit=local berth local --awsvpc --listen " + m.Address + ":4580 --state /var/lib/local")
	m.Eventually(20*time.Second, "curl -sSf -m 2 "+c.endpoint+"/_berth/health")
	m.Write("/etc/systemd/system/cluster.socket", "[Socket]\nListenStream=127.0.0.1:4580\n")
	m.Write("/etc/systemd/system/cluster.service", "[Service]\nExecStart=/lib/systemd/systemd-socket-proxyd "+m.Address+":4580\n")
	m.Run("systemctl daemon-reload; systemctl start cluster.socket")
	c.push(m.Address)
	c.aws("create-cluster", "--cluster-name", "fleet")
	return c
}

// register registers a task definition as it is: Debian's aws does not know all that there is.
func (c *cluster) register(definition string) {
	c.t.Helper()
	cmd := c.lan.Command(c.t.Context(), "curl", "-sSf", "-m", "20", "-d", "@-", "--aws-sigv4", "aws:amz:eu-west-1:ecs", "-u", "berth:local",
		"-H", "Content-Type: application/x-amz-json-1.1", "-H", "X-Amz-Target: AmazonEC2ContainerServiceV20141113.RegisterTaskDefinition", c.endpoint+"/")
	cmd.Stdin = strings.NewReader(definition)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("cannot register a task definition: %v\n%s", err, out)
	}
}

// start runs a task and answers its ARN.
func (c *cluster) start(family string, options ...string) string {
	c.t.Helper()
	return at(c.aws(append([]string{"run-task", "--cluster", "fleet", "--task-definition", family}, options...)...), "tasks", "taskArn")
}

// send has berth local send a message to the agent as it is.
func (c *cluster) send(message string) {
	c.t.Helper()
	body, err := json.Marshal(map[string]string{"garbage": message})
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := c.lan.Command(c.t.Context(), "curl", "-sSf", "-m", "20", "-H", "Content-Type: application/json", "-d", "@-", c.endpoint+"/_berth/faults")
	cmd.Stdin = strings.NewReader(string(body))
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("cannot send a message to the agent: %v\n%s", err, out)
	}
}

// The agent does all it does while systemd has it shut in, and what it makes is on the host. It is killed while a disk is mounted, and
// nothing is left when the tasks are gone.
func TestShutInOnMachine(t *testing.T) {
	lan := machine.New(t, os.Getenv("BERTH_TEST_MACHINE"))
	p := build(t, "1.0.0")
	m := lan.Boot(t, "host")
	m.Run("dpkg -i " + m.Put(p.deb))
	defer func() {
		if t.Failed() {
			said, _ := m.Try("journalctl --no-pager -o cat -u berth -u berth-logs | tail -n 80; berth ps --all; ls -l /home/made/by/berth; cat /proc/self/mountinfo | tail -n 30")
			t.Logf("the journal:\n%s", said)
		}
	}()
	c := clusterOn(t, lan, m)

	m.Write("/usr/local/sbin/mount.efs", mountEFS)
	m.Write("/etc/hosts", "127.0.0.1 localhost\n")
	m.Write("/usr/local/sbin/mkfs.xfs", "#!/bin/sh\nexit 1\n")
	m.Write("/etc/cdi/gpu.json", `{"cdiVersion":"0.5.0","kind":"nvidia.com/gpu","devices":[{"name":"GPU-aaaa","containerEdits":{"deviceNodes":[{"path":"/dev/nvidia0"}]}}]}`)
	m.Run("chmod 755 /usr/local/sbin/*; mknod /dev/nvidia0 c 1 3; cd /var/lib; mkdir -p ecs/deps/execute-command; cd ecs/deps/execute-command; mkdir -p config certs bin/1.0; touch certs/tls-ca-bundle.pem; " +
		"for p in amazon-ssm-agent ssm-agent-worker ssm-session-worker; do printf '#!/bin/sh\\necho $0 >>/var/log/amazon/ssm/runs; exec sleep 1000\\n' >bin/1.0/$p; done; chmod 755 bin/1.0/*")
	// The directory of its data is one that the unit knows nothing of.
	m.Write("/etc/ecs/ecs.config", strings.Replace(settings, machine.Gateway, m.Address, 1)+`ECS_DATADIR=/srv/berth
ECS_ENABLE_GPU_SUPPORT=true
ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST=true
ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=2s
ECS_INSTANCE_ATTRIBUTES={"ecs.capability.fault-injection":"by-hand"}
`)
	m.Run("systemctl enable --quiet --now berth")
	instance := c.awaitInstances(1)[0]

	// It is shut in.
	if got := m.Run("pid=$(systemctl show --value -p MainPID berth); nsenter --target $pid --mount sh -c 'touch /etc/x /usr/lib/x /sys/fs/cgroup/x /proc/sys/x; ls /dev/nvidia0' 2>&1 | grep -c -e 'Read-only' -e 'No such'"); got != "5" {
		t.Errorf("of five things that it does not need the agent has %s not", got)
	}

	device := diskOf(t, m)
	c.send(fmt.Sprintf(announced, device))
	m.Eventually(30*time.Second, "curl -sSf http://"+m.Address+":4580/_berth/frames | grep ConfirmAttachment")
	c.send(fmt.Sprintf(disk, device))
	c.register(everything)
	all := c.start("everything", "--network-configuration", "awsvpcConfiguration={subnets=[subnet-1]}", "--enable-execute-command")
	c.register(served)
	c.register(onHost)
	web, host := c.start("served"), c.start("onhost")
	for _, task := range []string{all, web, host} {
		c.await(task, "RUNNING")
	}

	for what, want := range map[string]string{
		"cat /home/made/by/berth/filled":                        "^2775:1000 4755:0$",
		"ls /srv/efs/fs-1*/here":                                "here$",
		"cat /home/made/by/berth/metadata":                      "DockerId",
		"cat /home/made/by/berth/keys":                          "AccessKeyId",
		"cat /home/made/by/berth/hostkeys":                      "AccessKeyId",
		"cat /home/made/by/berth/fault":                         "Status.*running",
		"cat /home/made/by/berth/gpu":                           "^1:3$",
		"tr '\\n\\t' '  ' </home/made/by/berth/root":            "^CapEff: $(sed -n 's/CapBnd:.//p' /proc/1/status) /dev/nvidia0 $",
		"cat /var/log/ecs/exec/*/*/runs":                        "amazon-ssm-agent",
		"curl -sS -m 5 http://127.0.0.1/":                       "hello from berth",
		"cat /mnt/ecs/ebs/0001_vol-0abc/note":                   "written",
		"stat -c '%a %U' /mnt/ecs/ebs/0001_vol-0abc":            "^2775 root$",
		"grep -c ' /mnt/ecs/ebs/0001_vol-0abc ' /proc/1/mounts": "^1$",
	} {
		m.Eventually(30*time.Second, "{ "+what+"; } | grep -e \""+want+"\"")
	}
	c.until(time.Minute, func() error {
		if health := c.task(all, "healthStatus"); health != "UNHEALTHY" {
			return fmt.Errorf("the health of a task whose check hangs is %s", health)
		}
		return nil
	})

	// It is killed, and the next one knows everything.
	before := m.Run("systemctl show --value -p MainPID berth")
	m.Run("kill -KILL " + before)
	m.Eventually(20*time.Second, "test $(systemctl show --value -p MainPID berth) -gt 0 && test $(systemctl show --value -p MainPID berth) != "+before+" && berth ps")
	if got := c.awaitInstances(1)[0]; got != instance {
		t.Errorf("it is another container instance: %s", got)
	}
	m.Run("curl -sS -m 5 http://127.0.0.1/; systemctl reload berth")
	for _, task := range []string{all, web, host} {
		c.aws("stop-task", "--cluster", "fleet", "--task", task)
	}
	// The one with the disk ECS knows nothing of: the new agent was told so, and has stopped it or does now.
	for _, task := range []string{all, web, host} {
		c.await(task, "STOPPED")
	}
	for _, none := range []string{
		"grep -e /mnt/ecs/ebs/ -e /srv/berth/ -e /run/berth/ /proc/1/mounts", "ls /run/berth/netns", "ctr -n berth c ls -q", "ls /mnt/ecs/ebs",
		"ls /srv/berth/volumes", "ls -d /sys/fs/cgroup/*/ecs/*/", "pgrep -f 'sleep 123[45]'",
	} {
		m.Eventually(30*time.Second, "test -z \"$("+none+" 2>/dev/null)\"")
	}
	m.Run("mount " + device + " /mnt && grep written /mnt/note && umount /mnt")

	// Nothing was refused to it on the way.
	if said, err := m.Try("journalctl --no-pager -o cat -u berth | grep -i -e 'read-only file' -e 'not permitted' -e 'permission denied' -e 'invalid argument' -e 'cannot kill'"); err == nil {
		t.Errorf("the agent was kept from something:\n%s", said)
	}
}
