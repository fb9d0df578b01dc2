package ami_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/packaging/machine"
)

// unknown is what of the template Debian's Packer 1.6.6 does not know: between these two lines, and the file plugins.pkr.hcl.
var unknown = regexp.MustCompile(`(?s)\n  # since packer 1\.7\n(.*?)\n  # end\n`)

// templateDir is the directory with the template, as far as this Packer knows it.
func templateDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile("berth.pkr.hcl")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "berth.pkr.hcl"), unknown.ReplaceAllString(string(text), "\n"))
	for _, name := range []string{"provision.sh", "versions", "host"} {
		source, err := filepath.Abs(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(source, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// What this Packer does not know is the one thing that makes tokens necessary to read an instance's metadata: it is looked at here,
// and everything else is run.
func TestMetadataNeedsTokens(t *testing.T) {
	text, err := os.ReadFile("berth.pkr.hcl")
	if err != nil {
		t.Fatal(err)
	}
	left := unknown.FindAllStringSubmatch(string(text), -1)
	if len(left) != 1 {
		t.Fatalf("%d parts of the template are left out of the tests", len(left))
	}
	settings := regexp.MustCompile(`(?m)^ *([a-z_]+) *= *(.*)$`)
	got := map[string]string{}
	for _, m := range settings.FindAllStringSubmatch(left[0][1], -1) {
		got[m[1]] = m[2]
	}
	want := map[string]string{"http_endpoint": `"enabled"`, "http_tokens": `"required"`, "http_put_response_hop_limit": "1", "imds_support": `"v2.0"`}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s = %s", name, got[name])
		}
		delete(got, name)
	}
	if len(got) != 0 {
		t.Errorf("left out of the tests as well: %v", got)
	}
}

// TestTemplate has Packer look at the template in all the ways that it is used in.
func TestTemplate(t *testing.T) {
	packer(t, t.TempDir(), "version")
	dir := templateDir(t)
	for _, name := range []string{"berth.pkr.hcl", "plugins.pkr.hcl"} {
		packer(t, ".", "fmt", "-check", name)
	}
	dist := t.TempDir()
	for _, name := range []string{
		"berth_1.0.0-1_amd64.deb", "berth_1.0.0-1_arm64.deb", "berth-1.0.0-1.x86_64.rpm", "berth-1.0.0-1.aarch64.rpm", "images",
	} {
		write(t, filepath.Join(dist, name), "")
	}
	always := []string{"validate", "-var", "version=1.0.0", "-var", "dist=" + dist}
	for name, vars := range map[string][]string{
		"amd64": nil,
		"arm64": {"arch=arm64"},
		"all": {
			"encrypted=true", "kms_key=alias/berth", `copy_to=["eu-west-1"]`, `share_with=["111122223333"]`, "images=" + dist + "/images", `tags={"team"="a"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			args := always
			for _, v := range vars {
				args = append(slices.Clip(args), "-var", v)
			}
			packer(t, dir, append(slices.Clip(args), ".")...)
		})
	}
	if out, err := packerCommand(t.Context(), dir, "validate", "-var", "dist="+dist, ".").CombinedOutput(); err == nil {
		t.Errorf("it does not need to know which version:\n%s", out)
	}
}

// TestPackerBuild makes an AMI as an operator does, from the whole template: the instance is a machine of systemd-nspawn with a sshd,
// and EC2 a stand-in that is asked all that EC2 would be. Then an instance of what was made boots.
func TestPackerBuild(t *testing.T) {
	lan := machine.New(t, os.Getenv("BERTH_TEST_MACHINE"))
	p := build(t)
	m := lan.Make(t, "builder")
	cloud := newEC2(t, m)
	server := &httptest.Server{Listener: lan.Listen(t, "127.0.0.1:0"), Config: &http.Server{Handler: cloud, ReadHeaderTimeout: time.Minute}}
	server.Start()
	t.Cleanup(server.Close)

	dist := t.TempDir()
	for _, file := range []string{p.deb, p.rpm} {
		if err := os.Symlink(file, filepath.Join(dist, filepath.Base(file))); err != nil {
			t.Fatal(err)
		}
	}
	archive, digest := imageArchive(t, "registry.test/team/app:1", nil)
	args := []string{"build", "-color=false", "-only=amazon-ebs.debian-12"}
	for _, v := range []string{
		"version=" + p.version, "dist=" + dist, "arch=" + runtime.GOARCH, "region=eu-west-1", "ec2_endpoint=" + server.URL,
		"encrypted=true", "kms_key=alias/berth", `share_with=["111122223333"]`, `tags={"team"="a"}`, "images=" + archive,
	} {
		args = append(args, "-var", v)
	}
	cmd := lan.Command(t.Context(), "packer", append(args, ".")...)
	cmd.Dir = templateDir(t)
	cmd.Env = append(packerEnv(t), "AWS_ACCESS_KEY_ID=berth", "AWS_SECRET_ACCESS_KEY=local", "AWS_POLL_DELAY_SECONDS=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("packer build: %v\n%s", err, out)
	}
	cloud.made(t, p.version)
	manifest(t, filepath.Join(dist, "ami.json"), p.version)
	bom := read(t, filepath.Join(dist, "sbom-debian-12-"+runtime.GOARCH+".json"))
	if inside := read(t, filepath.Join(m.Root(), "usr/share/berth/sbom.json")); bom != inside {
		t.Error("the bill of materials is not the one in the AMI")
	}
	for _, gone := range []string{"etc/ssh/ssh_host_*", "tmp/berth", "var/lib/berth/agent.db", "var/log/journal/*", "var/cache/apt/archives/*.deb"} {
		if found, err := filepath.Glob(filepath.Join(m.Root(), gone)); err != nil || len(found) > 0 {
			t.Errorf("in the AMI there is %v (%v)", found, err)
		}
	}
	for _, empty := range []string{"etc/machine-id", "home/admin/.ssh/authorized_keys"} {
		if text := read(t, filepath.Join(m.Root(), empty)); text != "" {
			t.Errorf("/%s of the AMI has %q", empty, text)
		}
	}
	bootsAfterUserData(t, m)
	if got := m.Run("berth bake --check && berth images"); !strings.Contains(got, "registry.test/team/app:1  "+digest) || !strings.Contains(got, "protected by its label") {
		t.Errorf("an instance has not the image that was baked in:\n%s", got)
	}
}

// newEC2 makes a stand-in whose instance is the machine, which has an account with a key as instances of Debian's images do.
func newEC2(t *testing.T, m *machine.Machine) *ec2 {
	t.Helper()
	account := `useradd --create-home --shell /bin/bash admin && echo 'admin ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/admin &&
		install -d -m 0700 -o admin -g admin ~admin/.ssh && ssh-keygen -q -t ed25519 -N '' -C packer -f /tmp/key &&
		echo "$(cat /tmp/key.pub)" >~admin/.ssh/authorized_keys && chown admin: ~admin/.ssh/authorized_keys &&
		echo "127.0.0.1 localhost builder" >/etc/hosts`
	cmd := exec.CommandContext(t.Context(), "chroot", m.Root(), "sh", "-c", account)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot make an account: %v\n%s", err, out)
	}
	e := &ec2{tb: t, address: m.Address, key: read(t, filepath.Join(m.Root(), "tmp/key")), stop: func() { m.PowerOff() }}
	e.run = func() {
		m.Boot()
		// EC2 has the name of the key pair for the comment, by which Packer knows it again.
		name := e.calls("CreateKeyPair")[0].Get("KeyName")
		m.Run("sed -i 's/ packer$/ " + name + "/' ~admin/.ssh/authorized_keys && ssh-keygen -A && mkdir -p /run/sshd && systemd-run --quiet /usr/sbin/sshd -D")
	}
	return e
}

// made looks at what EC2 was asked for.
func (e *ec2) made(t *testing.T, version string) {
	t.Helper()
	one := func(action string) url.Values {
		t.Helper()
		calls := e.calls(action)
		if len(calls) != 1 {
			t.Fatalf("%s was called %d times", action, len(calls))
		}
		return calls[0]
	}
	same := func(v url.Values, want map[string]string) {
		t.Helper()
		for name, value := range want {
			if got := v.Get(name); got != value {
				t.Errorf("%s: %s=%s, not %s", v.Get("Action"), name, got, value)
			}
		}
	}
	run, disk := one("RunInstances"), "BlockDeviceMapping.1."
	same(run, map[string]string{
		"ImageId": "ami-0source", "InstanceType": "t3.small", disk + "DeviceName": "/dev/xvda", disk + "Ebs.VolumeType": "gp3", disk + "Ebs.VolumeSize": "16",
		disk + "Ebs.Iops": "3000", disk + "Ebs.Throughput": "125", disk + "Ebs.DeleteOnTermination": "true", disk + "Ebs.Encrypted": "true", disk + "Ebs.KmsKeyId": "alias/berth",
	})
	image := one("CreateImage")
	if name := image.Get("Name"); !regexp.MustCompile(`^berth-debian-12-1\.0\.0-test-` + runtime.GOARCH + `-\d{14}$`).MatchString(name) {
		t.Errorf("the AMI is called %s", name)
	}
	same(image, map[string]string{"InstanceId": "i-0fake"})
	source := "berth_version=" + version + "\nsource_image=debian-12-amd64-20260901-0000\nteam=a"
	marks := map[string]string{}
	for _, v := range e.calls("CreateTags") {
		marks[v.Get("ResourceId.1")] = tags(v)
	}
	want := "Name=" + image.Get("Name") + "\nberth_version=" + version + "\ncontainerd_version=1.6.20~*\nos=debian-12\nrunc_version=1.1.5+*\nsource_image=debian-12-amd64-20260901-0000\nteam=a"
	if got := marks["ami-0made"]; got != want {
		t.Errorf("the AMI is tagged\n%s\nnot\n%s", got, want)
	}
	if got := marks["snap-0made"]; got != source {
		t.Errorf("the snapshot is tagged\n%s", got)
	}
	shared := slices.ContainsFunc(e.calls("ModifyImageAttribute"), func(v url.Values) bool {
		return v.Get("ImageId") == "ami-0made" && v.Get("LaunchPermission.Add.1.UserId") == "111122223333"
	})
	if !shared {
		t.Error("the AMI is not shared with the account")
	}
	if got := strings.Join(e.order("RunInstances", "StopInstances", "CreateImage", "TerminateInstances", "DeleteSecurityGroup", "DeleteKeyPair"), " "); got !=
		"RunInstances StopInstances CreateImage TerminateInstances DeleteSecurityGroup DeleteKeyPair" {
		t.Errorf("the order is %s", got)
	}
}

// manifest looks at what Packer says it made.
func manifest(t *testing.T, file, version string) {
	t.Helper()
	var m struct {
		Builds []struct {
			Name     string            `json:"name"`
			Artifact string            `json:"artifact_id"`
			Data     map[string]string `json:"custom_data"`
		} `json:"builds"`
	}
	if err := json.Unmarshal([]byte(read(t, file)), &m); err != nil || len(m.Builds) != 1 {
		t.Fatalf("%v in %s", err, read(t, file))
	}
	got := fmt.Sprint(m.Builds[0])
	want := fmt.Sprintf("{host eu-west-1:ami-0made map[arch:%s containerd:1.6.20~* imds:v2.0 os:debian-12 runc:1.1.5+* version:%s volume:gp3]}", runtime.GOARCH, version)
	if got != want {
		t.Errorf("the manifest says %s", got)
	}
}

// bootsAfterUserData boots the machine as an instance of an image that was made of it: the agent waits for user data, and user data that
// starts it does not wait for ever. cloud-final.service is ordered as Debian's is.
func bootsAfterUserData(t *testing.T, m *machine.Machine) {
	t.Helper()
	m.Write("/etc/systemd/system/cloud-final.service", `[Unit]
After=network-online.target rc-local.service multi-user.target
Wants=network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /root/user-data
[Install]
WantedBy=cloud-init.target
`)
	m.Write("/etc/systemd/system/cloud-init.target", "[Unit]\nAfter=multi-user.target\n[Install]\nWantedBy=multi-user.target\n")
	if out, err := exec.CommandContext(t.Context(), "systemctl", "--root="+m.Root(), "enable", "cloud-final.service", "cloud-init.target").CombinedOutput(); err != nil {
		t.Fatalf("cannot enable units: %v\n%s", err, out)
	}
	m.Write("/root/user-data", `systemctl is-active berth >/root/before
printf '%s\n' ECS_CLUSTER=of-user-data AWS_DEFAULT_REGION=eu-west-1 AWS_EC2_METADATA_DISABLED=true AWS_ACCESS_KEY_ID=berth \
	AWS_SECRET_ACCESS_KEY=local ECS_BACKEND_HOST=http://`+machine.Gateway+`:4580 >>/etc/ecs/ecs.config
`)
	m.Boot()
	m.Eventually(time.Minute, "systemctl is-active berth")
	if got := m.Run("cat /root/before; systemctl is-enabled berth || true; berth config --running | grep ECS_CLUSTER"); !strings.HasPrefix(got, "inactive\ndisabled\n") || !strings.Contains(got, "of-user-data") {
		t.Errorf("before user data the agent is, and then has:\n%s", got)
	}

	m.Write("/root/user-data", "systemctl is-active berth >/root/before; systemctl enable --now berth && echo started >/root/started\n")
	m.PowerOff()
	m.Boot()
	if got := m.Run("cat /root/before /root/started; systemctl is-active berth"); got != "inactive\nstarted\nactive" {
		t.Errorf("with user data that starts the agent:\n%s", got)
	}
	if said := m.Run("journalctl --no-pager --boot=all | grep -i 'ordering cycle' || true"); said != "" {
		t.Errorf("systemd finds a circle:\n%s", said)
	}
}

// packer runs it, and it has to say nothing but that all is well.
func packer(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := packerCommand(t.Context(), dir, args...)
	cmd.Env = packerEnv(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("packer %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func packerCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "packer", args...)
	cmd.Dir = dir
	return cmd
}

// packerEnv keeps it from leaving anything at home, and from asking anybody whether there is a newer one.
func packerEnv(t *testing.T) []string {
	t.Helper()
	if _, err := exec.LookPath("packer"); err != nil {
		t.Skipf("needs packer: %v (make deps installs it)", err)
	}
	return append(os.Environ(), "HOME="+t.TempDir(), "CHECKPOINT_DISABLE=1", "PACKER_NO_COLOR=1")
}
