package network

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// write makes the host's side of name files in a temporary directory.
func write(t *testing.T, files map[string]string) nameFiles {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return nameFiles{
		dir:        filepath.Join(dir, "net"),
		resolvConf: filepath.Join(dir, "resolv.conf"),
		hostsFile:  filepath.Join(dir, "hosts"),
		upstream:   filepath.Join(dir, "upstream.conf"),
		fallback:   []netip.Addr{netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("8.8.4.4")},
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

const containerHosts = "127.0.0.1\tlocalhost\n" +
	"::1\tlocalhost ip6-localhost ip6-loopback\n" +
	"fe00::\tip6-localnet\n" +
	"ff00::\tip6-mcastprefix\n" +
	"ff02::1\tip6-allnodes\n" +
	"ff02::2\tip6-allrouters\n"

func TestHostsAndHostname(t *testing.T) {
	f := write(t, map[string]string{"hosts": "127.0.0.1 localhost\n192.0.2.7 of-the-host\n\n"})
	db := Host{Addr: netip.MustParseAddr("172.29.0.9"), Names: []string{"database", "db-container"}}
	for _, c := range []struct {
		name     string
		r        FilesRequest
		hosts    string
		hostname string
	}{
		{
			"bridge",
			FilesRequest{ID: "c", Hostname: "web", Addrs: addrs("172.29.0.2", "fd00::2"), ExtraHosts: []Host{db}},
			containerHosts + "172.29.0.9\tdatabase db-container\n172.29.0.2\tweb\nfd00::2\tweb\n", "web\n",
		},
		{
			"with a domain",
			FilesRequest{ID: "c", Hostname: "web", Domain: "example.org", Addrs: addrs("172.29.0.2")},
			containerHosts + "172.29.0.2\tweb.example.org web\n", "web\n",
		},
		{"none", FilesRequest{ID: "c", Hostname: "web"}, containerHosts, "web\n"},
		{
			"host",
			FilesRequest{ID: "c", HostNetwork: true, Hostname: "of-the-host", ExtraHosts: []Host{db}},
			"127.0.0.1 localhost\n192.0.2.7 of-the-host\n172.29.0.9\tdatabase db-container\n", "of-the-host\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 2 {
				got, err := f.write(c.r)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.hosts, read(t, got.Hosts)); diff != "" {
					t.Errorf("hosts:\n%s", diff)
				}
				if diff := cmp.Diff(c.hostname, read(t, got.Hostname)); diff != "" {
					t.Errorf("hostname:\n%s", diff)
				}
				if info, err := os.Stat(got.Hosts); err != nil || info.Mode().Perm() != 0o644 {
					t.Errorf("mode of hosts: %v, %v", info.Mode(), err)
				}
			}
		})
	}
	for range 2 {
		if err := f.remove("c"); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(f.dir); err != nil || len(left) != 0 {
		t.Errorf("left after removal: %v, %v", left, err)
	}
}

func TestResolvConf(t *testing.T) {
	const ordinary = "# of the host\ndomain old\nsearch ec2.internal corp\nnameserver 10.0.0.2 ; the VPC's\nnameserver fd00::2\noptions ndots:2 timeout:1\noptions rotate\n"
	const stub = "nameserver 127.0.0.53\nsearch ec2.internal\noptions edns0 trust-ad\n"
	for _, c := range []struct {
		name, host, upstream string
		r                    FilesRequest
		want                 string
	}{
		{
			"as on the host", ordinary, "",
			FilesRequest{},
			"nameserver 10.0.0.2\nnameserver fd00::2\nsearch ec2.internal corp\noptions ndots:2 timeout:1 rotate\n",
		},
		{
			"systemd-resolved", stub, "nameserver 10.0.0.2\nsearch other\n",
			FilesRequest{},
			"nameserver 10.0.0.2\nsearch ec2.internal\noptions edns0 trust-ad\n",
		},
		{
			"systemd-resolved, host network", stub, "nameserver 10.0.0.2\n",
			FilesRequest{HostNetwork: true},
			"nameserver 127.0.0.53\nsearch ec2.internal\noptions edns0 trust-ad\n",
		},
		{
			"loopback and link-local resolvers only", "nameserver ::1\nnameserver fe80::1%eth0\n", "nameserver 127.0.0.1\n",
			FilesRequest{},
			"nameserver 8.8.8.8\nnameserver 8.8.4.4\n",
		},
		{"nothing at all", "", "", FilesRequest{}, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"},
		{
			"one of two is of use", "nameserver 127.0.0.1\nnameserver 10.0.0.2\n", "",
			FilesRequest{},
			"nameserver 10.0.0.2\n",
		},
		{
			"nonsense is passed over", "nameserver ns.example.org\nsortlist x\nnameserver 10.0.0.2\nnameserver", "",
			FilesRequest{},
			"nameserver 10.0.0.2\n",
		},
		{
			"the task's servers", ordinary, "",
			FilesRequest{DNS: DNS{Servers: addrs("127.0.0.1", "10.9.9.9", "10.9.9.8", "10.9.9.7")}},
			"nameserver 127.0.0.1\nnameserver 10.9.9.9\nnameserver 10.9.9.8\nsearch ec2.internal corp\noptions ndots:2 timeout:1 rotate\n",
		},
		{
			"the task's search and options", ordinary, "",
			FilesRequest{DNS: DNS{Search: []string{"a", "b"}, Options: []string{"ndots:5"}}},
			"nameserver 10.0.0.2\nnameserver fd00::2\nsearch a b\noptions ndots:5\n",
		},
		{
			"no search", ordinary, "",
			FilesRequest{DNS: DNS{Search: []string{"."}}},
			"nameserver 10.0.0.2\nnameserver fd00::2\noptions ndots:2 timeout:1 rotate\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := map[string]string{"hosts": ""}
			if c.host != "" {
				host["resolv.conf"] = c.host
			}
			if c.upstream != "" {
				host["upstream.conf"] = c.upstream
			}
			c.r.ID = "c"
			got, err := write(t, host).write(c.r)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, read(t, got.ResolvConf)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What a task definition says can add neither lines nor files.
func TestNamesThatWouldBreakFiles(t *testing.T) {
	f := write(t, nil)
	addr := netip.MustParseAddr("10.0.0.2")
	for name, r := range map[string]FilesRequest{
		"no id":                  {},
		"id upwards":             {ID: ".."},
		"id elsewhere":           {ID: "../../etc"},
		"host name of two":       {ID: "c", Hostname: "a b"},
		"host name of lines":     {ID: "c", Hostname: "a\nnameserver"},
		"domain of lines":        {ID: "c", Hostname: "a", Domain: "b\nc"},
		"extra host of lines":    {ID: "c", ExtraHosts: []Host{{Addr: addr, Names: []string{"a\n127.0.0.1 b"}}}},
		"extra host, comment":    {ID: "c", ExtraHosts: []Host{{Addr: addr, Names: []string{"#a"}}}},
		"extra host, no name":    {ID: "c", ExtraHosts: []Host{{Addr: addr}}},
		"extra host, no addr":    {ID: "c", ExtraHosts: []Host{{Names: []string{"a"}}}},
		"search of lines":        {ID: "c", DNS: DNS{Search: []string{"a\nb"}}},
		"empty option":           {ID: "c", DNS: DNS{Options: []string{""}}},
		"server without an addr": {ID: "c", DNS: DNS{Servers: []netip.Addr{{}}}},
	} {
		if got, err := f.write(r); !errors.Is(err, ErrBadName) {
			t.Errorf("%s: %v, %v; want ErrBadName", name, got, err)
		}
	}
	if err := f.remove("../x"); !errors.Is(err, ErrBadName) {
		t.Errorf("remove: %v, want ErrBadName", err)
	}
	if _, err := os.Stat(f.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
}
