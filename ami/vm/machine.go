package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// How the hardware is called. The first part of a UUID and of a serial number is how software knows EC2.
const (
	primaryMAC = "06:be:27:00:00:11"
	hardware   = "ec2be27e-0000-4000-8000-000000000011"
	firmware   = "/usr/share/ovmf/OVMF.fd"
	// slots are how many network interfaces can be plugged in.
	slots = 2
)

// booting is how long a boot may take. Most take less than a minute; a machine that other tests keep busy takes several.
const booting = 8 * time.Minute

var (
	errSlow = errors.New("it takes too long")
	errOff  = errors.New("the machine is off")
)

// Machine is a virtual machine. It is used by one goroutine at a time, but for Plug.
//
//	off ── Boot ──▶ running ── PowerOff, Cut ──▶ off
//	                  │  ▲
//	                  └──┘ Reboot
type Machine struct {
	tb      testing.TB
	network *network
	dir     string // the disk, the console and the monitor's socket
	key     key
	known   ssh.PublicKey // the machine's host key, once it was seen
	qemu    *exec.Cmd
	ended   chan struct{} // closed when QEMU has ended
	monitor *monitor
	client  *ssh.Client
	plugged int
}

// Instance is what instance metadata says of a machine.
type Instance struct {
	ID, UserData string
	// Role's credentials are AccessKey and SecretKey.
	Region, Role, AccessKey, SecretKey string
}

// New makes a machine that is off, in a network namespace that has to be the test's own, with a disk of size (as QEMU reads it: 8G) that begins as a copy of image. It skips the test, and says
// what is missing, where there can be none.
func New(tb testing.TB, image, size string, instance *Instance) *Machine {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root: the machine is in a network of the test's own")
	}
	for _, program := range []string{"qemu-system-x86_64", "qemu-img", "ip", "busybox"} {
		if _, err := exec.LookPath(program); err != nil {
			tb.Skipf("needs %s: %v (make deps installs it)", program, err)
		}
	}
	for _, file := range []string{firmware, image} {
		if _, err := os.Stat(file); err != nil || file == "" {
			tb.Skip("needs UEFI firmware (package ovmf) and an image in BERTH_TEST_IMAGE (make image-test makes it)")
		}
	}
	m := &Machine{tb: tb, network: newNetwork(tb), dir: tb.TempDir(), key: newKey(tb)}
	run(tb, "qemu-img", "create", "-q", "-f", "qcow2", "-F", format(image), "-b", image, m.disk(), size)
	m.describe(instance)
	m.network.port("primary")
	for i := range slots {
		m.network.port(slot(i))
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			lines := strings.Split(m.Console(), "\n")
			tb.Logf("the console says at last:\n%s", strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
		m.Cut()
	})
	return m
}

func format(image string) string { return strings.TrimPrefix(filepath.Ext(image), ".") }
func slot(i int) string          { return fmt.Sprintf("eni%d", i) }

func (m *Machine) disk() string    { return filepath.Join(m.dir, "disk.qcow2") }
func (m *Machine) console() string { return filepath.Join(m.dir, "console") }
func (m *Machine) socket() string  { return filepath.Join(m.dir, "monitor") }

// Console is what the machine has said on its serial line.
func (m *Machine) Console() string {
	text, _ := os.ReadFile(m.console()) // It may have said nothing.
	return string(text)
}

// describe fills instance metadata, with what cloud-init, the agent and the SDK ask.
func (m *Machine) describe(i *Instance) {
	m.tb.Helper()
	document, err := json.MarshalIndent(map[string]any{
		"accountId": "000000000000", "architecture": "x86_64", "availabilityZone": i.Region + "a", "imageId": "ami-0be27be27be27be27",
		"instanceId": i.ID, "instanceType": "t3.micro", "pendingTime": "2026-01-01T00:00:00Z", "privateIp": Address, "region": i.Region,
		"version": "2017-09-30",
	}, "", "  ")
	if err != nil {
		m.tb.Fatal(err)
	}
	keys, err := json.Marshal(map[string]string{
		"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z", "Expiration": time.Now().Add(6 * time.Hour).UTC().Format(time.RFC3339),
		"AccessKeyId": i.AccessKey, "SecretAccessKey": i.SecretKey, "Token": "session",
	})
	if err != nil {
		m.tb.Fatal(err)
	}
	mac := "meta-data/network/interfaces/macs/" + primaryMAC + "/"
	for path, value := range map[string]string{
		"meta-data/ami-id": "ami-0be27be27be27be27", "meta-data/instance-id": i.ID, "meta-data/instance-type": "t3.micro",
		"meta-data/hostname": "ip-10-214-0-11.ec2.internal", "meta-data/local-hostname": "ip-10-214-0-11.ec2.internal",
		"meta-data/local-ipv4": Address, "meta-data/mac": primaryMAC,
		"meta-data/placement/region": i.Region, "meta-data/placement/availability-zone": i.Region + "a",
		"meta-data/services/domain": "amazonaws.com", "meta-data/services/partition": "aws",
		// Unlike all other lists, this one is of names of keys.
		"meta-data/public-keys/": "0=operator", "meta-data/public-keys/0/openssh-key": m.key.public,
		"meta-data/iam/security-credentials/" + i.Role: string(keys),
		mac + "device-number":                          "0", mac + "interface-id": "eni-0be27be27be27be27", mac + "local-ipv4s": Address,
		mac + "subnet-id": "subnet-0be27be27be27be27", mac + "vpc-id": "vpc-0be27be27be27be27", mac + "subnet-ipv4-cidr-block": Subnet,
		"dynamic/instance-identity/document": string(document), "dynamic/instance-identity/signature": "c2lnbmF0dXJl",
		"user-data": i.UserData,
	} {
		m.network.metadata.PutMetadata(path, value)
	}
}

// Boot starts the machine and waits until the operator can log in. It answers when the power came on.
func (m *Machine) Boot() time.Time {
	m.tb.Helper()
	if m.qemu != nil {
		m.tb.Fatal("the machine runs already")
	}
	args := []string{
		// What is translated is the same on every host, whatever CPU that has.
		"-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max", "-machine", "q35", "-m", "1024", "-smp", "2",
		"-bios", firmware, "-display", "none", "-nodefaults", "-no-user-config",
		"-smbios", "type=0,vendor=Amazon EC2", "-smbios", "type=1,manufacturer=Amazon EC2,product=t3.micro,uuid=" + hardware + ",serial=" + hardware,
		// What the machine has written is written when its power is cut; it need not wait for this host's disk.
		"-drive", "file=" + m.disk() + ",if=none,id=root,format=qcow2,cache=unsafe,discard=unmap", "-device", "nvme,drive=root,serial=vol0be27be27be27be27",
		"-netdev", "tap,id=primary,ifname=primary,script=no,downscript=no", "-device", "virtio-net-pci,netdev=primary,romfile=,mac=" + primaryMAC,
		"-device", "virtio-rng-pci", "-chardev", "file,id=console,append=on,path=" + m.console(), "-serial", "chardev:console",
		"-qmp", "unix:" + m.socket() + ",server=on,wait=off",
	}
	for i := range slots {
		args = append(args, "-device", fmt.Sprintf("pcie-root-port,id=%s,chassis=%d", slot(i), i+1))
	}
	m.qemu = exec.Command("qemu-system-x86_64", args...) //nolint:noctx // PowerOff or Cut ends it
	var said strings.Builder
	m.qemu.Stdout, m.qemu.Stderr = &said, &said
	start := time.Now()
	if err := m.qemu.Start(); err != nil {
		m.tb.Fatal(err)
	}
	m.plugged, m.ended = 0, make(chan struct{})
	go func(qemu *exec.Cmd, ended chan<- struct{}) {
		defer close(ended)
		_ = qemu.Wait() // How it ends says nothing: it is off.
	}(m.qemu, m.ended)
	m.awaitLogin()
	monitor, err := openMonitor(m.socket())
	if err != nil {
		m.tb.Fatalf("cannot open QEMU's monitor: %v\n%s", err, said.String())
	}
	m.monitor = monitor
	return start
}

// awaitLogin waits until the operator can log in.
func (m *Machine) awaitLogin() {
	m.tb.Helper()
	ctx, cancel := context.WithTimeoutCause(m.tb.Context(), booting, errSlow)
	defer cancel()
	for {
		client, err := m.key.login(ctx, &m.known)
		if err == nil {
			m.client = client
			return
		}
		select {
		case <-m.ended:
			m.tb.Fatalf("the machine went off while it booted (%v)", err)
		default:
		}
		if ctx.Err() != nil {
			m.tb.Fatalf("nobody can log in: %v", err)
		}
		pause(ctx)
	}
}

// Try runs a line of shell in the machine as root, and answers what it printed on both streams, without blanks around it.
func (m *Machine) Try(line string) (string, error) {
	if m.client == nil {
		return "", errOff
	}
	return shell(m.tb.Context(), m.client, line, "")
}

// Put puts a program into the machine.
func (m *Machine) Put(program, path string) {
	m.tb.Helper()
	content, err := os.ReadFile(program)
	if err != nil {
		m.tb.Fatal(err)
	}
	if out, err := shell(m.tb.Context(), m.client, "cat >"+path+" && chmod 0700 "+path, string(content)); err != nil {
		m.tb.Fatalf("cannot put %s into the machine: %v\n%s", program, err, out)
	}
}

// Run runs a line of shell, which has to succeed, and answers what it printed.
func (m *Machine) Run(line string) string {
	m.tb.Helper()
	out, err := m.Try(line)
	if err != nil {
		m.tb.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

// Eventually waits until a line of shell succeeds, at most as long as limit, and answers what it printed then.
func (m *Machine) Eventually(limit time.Duration, line string) string {
	m.tb.Helper()
	ctx, cancel := context.WithTimeoutCause(m.tb.Context(), limit, errSlow)
	defer cancel()
	for {
		out, err := m.Try(line)
		if err == nil {
			return out
		}
		if ctx.Err() != nil {
			m.tb.Fatalf("this did not come true in %s: %s: %v\n%s", limit, line, err, out)
		}
		pause(ctx)
	}
}

// Reboot has the machine shut down in order and boot again, and waits until the operator can log in. It answers when it was told, and how
// long it took until the machine had gone down.
func (m *Machine) Reboot() (start time.Time, down time.Duration) {
	m.tb.Helper()
	start = time.Now()
	_, _ = m.Try("systemctl --no-block reboot") // The answer gets lost when the machine is quick.
	if err := m.monitor.await("RESET", booting); err != nil {
		m.tb.Fatalf("the machine does not reboot: %v", err)
	}
	down = time.Since(start)
	_ = m.client.Close() // Nobody is there any more.
	m.awaitLogin()
	return start, down
}

// PowerOff shuts the machine down in order and waits for that. It answers how long it took.
func (m *Machine) PowerOff() time.Duration {
	m.tb.Helper()
	start := time.Now()
	_, _ = m.Try("systemctl --no-block poweroff") // The answer gets lost when the machine is quick.
	timer := time.NewTimer(booting)
	defer timer.Stop()
	select {
	case <-m.ended:
	case <-timer.C:
		m.tb.Error("the machine does not shut down")
	}
	took := time.Since(start)
	m.Cut()
	return took
}

// Cut takes the power away, if the machine has it.
func (m *Machine) Cut() {
	if m.qemu == nil {
		return
	}
	_ = m.qemu.Process.Signal(syscall.SIGKILL) // It may have ended.
	<-m.ended
	if m.client != nil {
		_ = m.client.Close()
	}
	if m.monitor != nil {
		m.monitor.close()
	}
	m.qemu, m.client, m.monitor = nil, nil, nil
}

// Plug gives the running machine another network interface, on the same network, and answers once it is in its slot. It may be called
// while another goroutine uses the machine.
func (m *Machine) Plug(mac string) error {
	if m.plugged == slots {
		return errors.New("all slots have an interface")
	}
	name := slot(m.plugged)
	m.plugged++
	err := m.monitor.execute("netdev_add", map[string]any{"type": "tap", "id": "net-" + name, "ifname": name, "script": "no", "downscript": "no"})
	if err != nil {
		return err
	}
	return m.monitor.execute("device_add", map[string]any{
		"driver": "virtio-net-pci", "id": "dev-" + name, "netdev": "net-" + name, "bus": name, "mac": mac, "romfile": "",
	})
}

// pause waits for a moment between two looks.
func pause(ctx context.Context) {
	timer := time.NewTimer(200 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
