package taskmeta

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/metrics"
	"github.com/berthd/berth/runtime/container"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	webID, sideID, waitID = "web-id", "side-id", "wait-id"
	vpcID, hostID         = "vpc-id", "host-id"
	webRuntime            = "0a1b"
	sideRuntime           = "0c1d"
)

func arn(id string) string { return "arn:aws:ecs:eu-west-1:123456789012:task/blue/" + id }

// moment is n seconds into the test's day.
func moment(n int) time.Time {
	return time.Date(2026, 3, 4, 5, 6, n, 700_000_000, time.FixedZone("here", 3600))
}

// bridgeTask has a container with everything, one that has ended, and one that
// was pulled and waits.
func bridgeTask() *Task {
	code := 3
	return &Task{
		State: task.State{
			Definition: task.Definition{
				ARN: arn("web"), ID: "web", ClusterARN: "arn:aws:ecs:eu-west-1:123456789012:cluster/blue", Family: "shop", Version: "7",
				Shown: task.Shown{LaunchType: "EC2", Service: "shop", Group: "service:shop"}, CPU: 0.25, Memory: 512, Network: task.NetworkBridge,
				RoleID: "role", ExecutionRoleID: "execution", FaultInjection: true,
				Containers: []task.Container{
					{
						Name: "web_1", ARN: "arn:aws:ecs:eu-west-1:123456789012:container/blue/web/1", Image: "nginx:1", Reservation: task.Reservation{CPU: 128, Memory: 256},
						MetadataID: webID, Lifecycle: task.Lifecycle{ReportHealth: true, Restart: &task.RestartPolicy{}},
						Spec: container.Spec{Labels: map[string]string{"com.amazonaws.ecs.cluster": "blue"}},
						Log:  task.Log{Driver: "json-file", Options: map[string]string{"max-size": "1m"}},
					},
					{Name: "side", Image: "busybox", MetadataID: sideID, Log: task.Log{Driver: "none"}},
					{Name: "wait", Image: "busybox", MetadataID: waitID},
				},
				Associations: []task.Association{
					{Type: "gpu", Name: "GPU-1", Content: "{\"one\":\n1}", Containers: []string{"web_1"}},
					{Type: "gpu", Name: "GPU-2", Content: "two", Containers: []string{"side"}},
				},
			},
			Sent: task.ReportPending, ExecutionStoppedAt: moment(50),
			Containers: []task.ContainerState{
				{
					Name: "web_1", Phase: task.PhaseRunning, RuntimeID: webRuntime, ImageState: task.ImageState{Digest: "sha256:d1", ImageID: "sha256:c1"},
					Bindings: []task.Binding{
						{BindIP: "0.0.0.0", Protocol: "tcp", ContainerPort: 80, ContainerPortEnd: 80, HostPort: 32768},
						{BindIP: "::", Protocol: "udp", ContainerPort: 5000, ContainerPortEnd: 5001, HostPort: 40000, Range: true},
					},
					Pulling: task.Pulling{StartedAt: moment(1), StoppedAt: moment(3)},
					Times:   task.Times{CreatedAt: moment(4), StartedAt: moment(5)}, Health: task.HealthHealthy, HealthSince: moment(6),
					Check:    task.Check{ExitCode: 0, Output: "fine"},
					Restarts: task.Restarts{Count: 2, LastAt: moment(9)},
				},
				{
					Name: "side", Phase: task.PhaseStopped, RuntimeID: sideRuntime, ImageState: task.ImageState{Digest: "sha256:d2", ImageID: "sha256:c2"},
					Pulling: task.Pulling{StartedAt: moment(2), StoppedAt: moment(4)},
					Times:   task.Times{CreatedAt: moment(4), StartedAt: moment(5), EndedAt: moment(7)}, Exit: &container.Exit{Code: code, Known: true},
				},
				{Name: "wait", Phase: task.PhasePulled, ImageState: task.ImageState{Digest: "sha256:d2", ImageID: "sha256:c2"}},
			},
		},
		Endpoints: map[string]ipam.Endpoint{
			"web_1": {ID: webRuntime, Addresses: ipam.Addresses{IPv4: netip.MustParseAddr("172.31.240.5"), IPv6: netip.MustParseAddr("fd00:be::5")}},
			"side":  {ID: sideRuntime, Addresses: ipam.Addresses{IPv4: netip.MustParseAddr("172.31.240.6")}},
			"wait":  {ID: "w", Addresses: ipam.Addresses{IPv4: netip.MustParseAddr("172.31.240.7")}},
		},
		Desired: task.ReportRunning, Settled: map[string]bool{"side": true},
	}
}

// vpcTask has an interface of its own.
func vpcTask() *Task {
	return &Task{
		State: task.State{
			Definition: task.Definition{
				ARN: arn("vpc"), ID: "vpc", Family: "lone", Version: "1", Network: task.NetworkAWSVPC,
				Containers: []task.Container{{Name: "only", Image: "busybox", MetadataID: vpcID, Reservation: task.Reservation{CPU: 1}}},
				ENI: &task.ENI{
					MAC: "0e:01:02:03:04:05", IPv4: []netip.Prefix{netip.MustParsePrefix("10.0.0.9/24")}, IPv6: []netip.Prefix{netip.MustParsePrefix("2001:db8::9/64")},
					SubnetIPv4: netip.MustParsePrefix("10.0.0.1/24"), NameServers: []string{"10.0.0.2"}, Search: []string{"eu-west-1.compute.internal"},
					PrivateDNSName: "ip-10-0-0-9.eu-west-1.compute.internal",
				},
			},
			Sent:       task.ReportRunning,
			Containers: []task.ContainerState{{Name: "only", Phase: task.PhaseRunning, RuntimeID: "0e", Health: task.HealthUnknown}},
		},
		Endpoints: map[string]ipam.Endpoint{"": {ID: "vpc", Addresses: ipam.Addresses{IPv4: netip.MustParseAddr("169.254.172.9")}}},
		Desired:   task.ReportRunning,
	}
}

// hostTask is in host network mode.
func hostTask() *Task {
	return &Task{
		State: task.State{
			Definition: task.Definition{
				ARN: arn("host"), ID: "host", Family: "host", Version: "1", Network: task.NetworkHost, RoleID: "hostrole",
				Containers: []task.Container{{Name: "h", Image: "busybox", MetadataID: hostID}},
			},
			Containers: []task.ContainerState{{Name: "h", Phase: task.PhaseRunning, RuntimeID: "0f", Health: task.HealthUnknown}},
		},
		Desired: task.ReportRunning,
	}
}

// readings are fixed statistics.
type readings map[string]metrics.Reading

func (r readings) Latest(id string) (metrics.Reading, bool) {
	reading, ok := r[id]
	return reading, ok
}

func (r readings) Detail(string) (metrics.Detail, error) {
	return metrics.Detail{
		MemoryStat: map[string]uint64{"cache": 4096, "inactive_file": 1 << 40, "total_inactive_file": 1 << 40, "mapped_file": 512}, PerCPU: []uint64{6e9, 4e9},
		Devices: []metrics.DeviceIO{
			{Major: 8, Minor: 16, BlockIO: metrics.BlockIO{ReadBytes: 1, WriteBytes: 2, ReadOps: 3, WriteOps: 4}},
			{Major: 8, Minor: 0, BlockIO: metrics.BlockIO{ReadBytes: 512, WriteBytes: 1024, ReadOps: 1, WriteOps: 2}},
		},
	}, nil
}

func reading(v metrics.Version) metrics.Reading {
	r := metrics.Reading{CPUs: 2, Rates: metrics.Rates{Known: true, RxBytesPerSecond: 12.5, TxBytesPerSecond: 2}}
	r.Sample = metrics.Sample{
		Time: moment(20), Version: v,
		CPU:    metrics.CPU{Usage: 10e9, User: 7e9, System: 3e9, Periods: 100, ThrottledPeriods: 40, ThrottledTime: 5e8, HostUsage: 900e9},
		Memory: metrics.Memory{Usage: 20 << 20, Limit: metrics.NoLimit, Peak: 30 << 20, FailCount: 6, OOMKills: 2, Cache: 4096, InactiveFile: 2048},
		PIDs:   metrics.PIDs{Current: 4, Limit: 100},
		Network: &metrics.Network{Interfaces: []metrics.Interface{
			{Name: "eth0", Traffic: metrics.Traffic{RxBytes: 1, RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 5, TxPackets: 6, TxErrors: 7, TxDropped: 8}},
		}},
	}
	r.Previous = r.Sample
	r.Previous.Time, r.Previous.CPU.Usage = moment(19), 9e9
	return r
}

// world is a server with three tasks.
type world struct {
	*Server

	credentials *credentials.Store
	dir         string
}

func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	x := NewIndex()
	for _, some := range []*Task{bridgeTask(), vpcTask(), hostTask()} {
		x.Put(some)
	}
	store, dir := credentials.New(), t.TempDir()
	store.Put(credentials.Set{
		ID: "role", TaskARN: arn("web"), Role: credentials.Application, RoleARN: "arn:aws:iam::123456789012:role/web",
		AccessKeyID: "AKIA1", SecretAccessKey: "secret", SessionToken: "token", Expiration: "2026-03-04T11:06:07Z",
	})
	store.Put(credentials.Set{ID: "execution", TaskARN: arn("web"), Role: credentials.Execution, AccessKeyID: "AKIA2"})
	store.Expect(arn("host"), credentials.Application, "hostrole")
	c := Config{
		Index: x, Credentials: store, Log: zap.NewNop(), HostMemory: 1 << 30,
		Host: func() Host {
			return Host{
				Cluster: "blue", ContainerInstanceARN: "arn:aws:ecs:eu-west-1:123456789012:container-instance/blue/4c1d",
				Zone: "eu-west-1a", ZoneID: "euw1-az1", VPC: "vpc-1",
			}
		},
		Stats: readings{webRuntime: reading(metrics.V1), sideRuntime: {}, "0e": reading(metrics.V2)},
		Audit: AuditConfig{Path: filepath.Join(dir, "audit.log"), MaxBytes: 1 << 20, Keep: 2},
		Volumes: func(*task.Definition, string) []Volume {
			return []Volume{{DockerName: "data", Source: "/var/data", Destination: "/data"}}
		},
	}
	for _, f := range change {
		f(&c)
	}
	s := New(c)
	t.Cleanup(func() {
		if err := s.auditLog.close(); err != nil {
			t.Error(err)
		}
	})
	return &world{s, store, dir}
}

// answer is what somebody got.
type answer struct {
	status int
	header http.Header
	body   string
}

// from is an address in the words of the tests.
const (
	fromWeb, fromSide = "172.31.240.5", "172.31.240.6"
	fromVPC, fromHost = "169.254.172.9", "127.0.0.1"
	fromNobody        = "172.31.240.99"
)

// ask makes a request from an address.
func (w *world) ask(t *testing.T, from, method, path string, body ...string) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(strings.Join(body, "")))
	r.Header.Set("User-Agent", "tester")
	r.RemoteAddr = from + ":4000"
	client := netip.MustParseAddrPort(r.RemoteAddr)
	r = r.WithContext(context.WithValue(r.Context(), callerKey{}, &caller{client: client, peers: w.cfg.Peers}))
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	res := rec.Result()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(text)}
}

// golden compares JSON with a file of testdata, keys in the order they were sent.
func golden(t *testing.T, file, text string) {
	t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, []byte(text), "", "  "); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	out.WriteByte('\n')
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("%s differs; if that is meant, run with -update (-want +got):\n%s", file, diff)
	}
}
