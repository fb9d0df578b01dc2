package packaging_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/packaging/machine"
)

// instanceMetadata is EC2's on the network of the machines, with a hop limit of 1 as it is by default: its answers reach a host, and
// no container behind it.
func instanceMetadata(t *testing.T, lan *machine.LAN) {
	t.Helper()
	for _, line := range []string{
		"addr add 169.254.169.254/32 dev lan0", "rule add from 169.254.169.254 lookup 100", "route add 10.213.0.0/24 dev lan0 table 100 hoplimit 1",
	} {
		if out, err := lan.Command(t.Context(), "ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
	listener := lan.Listen(t, "169.254.169.254:80")
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut:
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
			_, _ = w.Write([]byte("token")) // It may have left.
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "token":
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasSuffix(r.URL.Path, "/meta-data/instance-id"):
			_, _ = w.Write([]byte("i-0123456789abcdef0"))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

// finding is a line of berth doctor.
type finding struct{ Check, Status, Why, Mend string }

// diagnose runs berth doctor, and answers its code and what it finds of some checks.
func diagnose(t *testing.T, m *machine.Machine) (code string, find func(check string) finding) {
	t.Helper()
	out := m.Run("berth doctor --json >/tmp/doctor; echo $?; cat /tmp/doctor")
	code, text, _ := strings.Cut(out, "\n")
	var all []finding
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return code, func(check string) finding {
		t.Helper()
		i := slices.IndexFunc(all, func(f finding) bool { return f.Check == check })
		if i < 0 {
			t.Fatalf("no check %q in %s", check, text)
		}
		return all[i]
	}
}

// The doctor looks from where containers are, on a host with a real bridge, real rules and instance metadata that is one hop away; and
// the settings are read again without a restart, those that can be.
func TestDoctorAndReloadOnMachine(t *testing.T) {
	lan := machine.New(t, os.Getenv("BERTH_TEST_MACHINE"))
	p := build(t, "1.0.0")
	c := newCluster(t, lan, p)
	instanceMetadata(t, lan)
	m := lan.Make(t, "host")
	own := strings.ReplaceAll(settings, "AWS_EC2_METADATA_DISABLED=true\n", "")
	m.Write("/etc/ecs/ecs.config", own)
	m.Boot()
	m.Run("dpkg -i " + m.Put(p.deb))
	c.awaitInstances(1)
	defer func() {
		if t.Failed() {
			said, _ := m.Try("berth doctor; journalctl --no-pager -o cat -u berth | tail -n 60")
			t.Logf("the doctor, and the journal:\n%s", said)
		}
	}()

	ways := []string{"metadata, host mode", "metadata, bridge mode", "metadata, awsvpc mode"}
	_, find := diagnose(t, m)
	for _, check := range ways {
		if f := find(check); f.Status != "OK" {
			t.Errorf("%s: %+v", check, f)
		}
	}
	if f := find("reserved ports"); f.Status != "OK" {
		t.Errorf("the package has reserved no ports: %+v", f)
	}
	if f := find("instance metadata"); f.Status != "OK" || !strings.Contains(f.Why, "a token is required (IMDSv2); containers in bridge mode do not reach it") {
		t.Errorf("%+v", f)
	}

	// A firewall as people write them. The way out that the doctor names is one.
	m.Run(`nft -f - <<'NFT'
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		iifname lo accept
		ct state established,related accept
	}
}
NFT`)
	code, find := diagnose(t, m)
	if f := find(ways[0]); code != "1" || f.Status != "OK" {
		t.Errorf("code %s, %+v", code, f)
	}
	for _, check := range ways[1:] {
		if f := find(check); f.Status != "FAIL" || !strings.Contains(f.Mend, "Chain input of table inet filter drops") {
			t.Errorf("behind a firewall: %+v", f)
		}
	}
	_, commands, _ := strings.Cut(find(ways[1]).Mend, "Accept them: ")
	m.Run(commands)
	_, find = diagnose(t, m)
	for _, check := range ways[1:] {
		if f := find(check); f.Status != "OK" {
			t.Errorf("with %s: %+v", commands, f)
		}
	}
	if left := m.Run("ip -br link; ls /run/berth/netns 2>/dev/null || true"); strings.Contains(left, "doctor") || strings.Contains(left, "veth") {
		t.Errorf("the doctor left something:\n%s", left)
	}

	// Settings that count at once, and others that wait; then a file that cannot be used.
	agent := m.Run("systemctl show --value -p MainPID berth")
	m.Write("/etc/ecs/ecs.config", own+"ECS_LOGLEVEL=debug\nECS_RESERVED_MEMORY=64\n")
	m.Run("berth config --check && systemctl reload berth")
	m.Eventually(20*time.Second, "systemctl show --value -p StatusText berth | grep -q 'restart for ECS_RESERVED_MEMORY'")
	said := m.Run("journalctl -u berth -o cat --no-pager; berth config --running")
	for _, want := range []string{`settings are read again  {"changed": ["ECS_LOGLEVEL"]}`, `after a restart of the agent, which its tasks do not notice  {"names": ["ECS_RESERVED_MEMORY"]}`} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not said:\n%s", want, said)
		}
	}
	m.Write("/etc/ecs/ecs.config", own+"ECS_INSTANCE_ATTRIBUTES=much\nECS_CLUSTRE=fleet\n")
	if out, err := m.Try("berth config --check"); err == nil || !strings.Contains(out, "ECS_INSTANCE_ATTRIBUTES") || !strings.Contains(out, "ECS_CLUSTRE") {
		t.Errorf("the file passes (%v):\n%s", err, out)
	}
	m.Run("systemctl reload berth")
	m.Eventually(20*time.Second, "systemctl show --value -p StatusText berth | grep -q 'left as they were: berth config --check'")
	if now := m.Run("systemctl is-active berth; systemctl show --value -p MainPID berth"); now != "active\n"+agent {
		t.Errorf("the agent was %s and is %s", agent, now)
	}
}
