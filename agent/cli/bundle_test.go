package cli

import (
	"archive/tar"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/hostapi/hostapitest"
)

func TestScrub(t *testing.T) {
	s := newScrubber(&config.Config{})
	secret := []string{
		"https://b.s3.amazonaws.com/k?X-Amz-Credential=planted&X-Amz-Signature=planted&versionId=3",
		"GET /k?X-Amz-Security-Token%3Dplanted HTTP/1.1", "https://b.s3.amazonaws.com/k?AWSAccessKeyId=planted&Signature=planted%3D",
		"cannot reach http://me:planted@proxy:3128/", "postgres://app:planted@db/x", "redis://:planted@cache",
		"DB_PASSWORD=planted", "DB_PASSWORD='planted with words'", `{"password": "planted"}`, `{"password":"plan\"ted planted"}`,
		`say {\"splunk-token\":\"planted\"} again`, "splunk-token=planted-0000", "Authorization: Splunk planted-token", "Authorization: Bearer planted.token",
		"Proxy-Authorization: Basic cGxhbnRlZDpwbGFudGVk", "--registry-password planted", "aws_secret_access_key = planted", "client-secret: planted",
		"AKIAPLANTEDPLANTED00", "the key wJalrPLANTEDEMI/K7MDENG/bPxRfiCYEXAMPLEK is wrong",
		"-----BEGIN RSA PRIVATE KEY-----\nplanted\nplanted\n-----END RSA PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\nplanted and cut off",
		"planted+rest/of=\nplanted\n-----END PRIVATE KEY-----", "eyJwbGFudGVkIjoi.eyJwbGFudGVkIjoi.plantedplanted",
		"GET /v2/credentials/planted-0000-4000-8000-000000000000", "ghp_plantedplantedplanted0000",
	}
	for _, text := range secret {
		got := s.scrub(text)
		for _, p := range []string{"planted", "PLANTED", "cGxhbnRlZ", "eyJwbGFudGVk", "wJalr"} {
			if strings.Contains(got, p) {
				t.Errorf("%q becomes %q", text, got)
			}
		}
		if !strings.Contains(got, masked) {
			t.Errorf("%q becomes %q: nothing says that something was there", text, got)
		}
	}
	for _, text := range []string{
		"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "0e2a9af9f1e04a9b8e3c7d5f6a1b2c3d4e5f6071",
		"arn:aws:ecs:eu-west-1:123456789012:task/blue/0123456789abcdef0123456789abcdef", "https://example.com/path?x=1", "me@example.com",
		"/usr/lib/systemd/system/multi-user.target.wants/berth.service", "the secret is out", "token bucket of 40", "169.254.170.2:80",
		"overlay /var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/12/fs",
	} {
		if got := s.scrub(text); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}

func TestScrubKnowsTheSettings(t *testing.T) {
	both := base64.StdEncoding.EncodeToString([]byte("somebody:correct horse"))
	path := filepath.Join(t.TempDir(), "ecs.config")
	text := "AWS_SECRET_ACCESS_KEY=battery-staple\nHTTPS_PROXY=http://me:squeamish@proxy:1\nECS_ENGINE_AUTH_TYPE=dockercfg\n" +
		`ECS_ENGINE_AUTH_DATA={"r.example.com":{"auth":"` + both + `","email":"ossifrage"}}` + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := config.Load(config.Options{File: path, JSONFile: os.DevNull, Environ: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"battery-staple", "squeamish", both, "correct horse", "ossifrage"} {
		if got := newScrubber(&c).scrub("it says " + secret + " here"); got != "it says *** here" {
			t.Errorf("%q becomes %q", secret, got)
		}
	}
}

// unpack is what a bundle holds, by name without the first directory.
func unpack(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	zipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for archive := tar.NewReader(zipped); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		out[name] = string(text)
	}
}

func TestBundle(t *testing.T) {
	host := hostapitest.New()
	const url = "https://b.s3.amazonaws.com/k?X-Amz-Signature=planted-signature"
	host.Events.Publish(hostapi.Event{Time: hostapitest.Start(), What: "pull failed", Detail: "cannot get " + url})
	host.View.Connections[0].Reason = "proxy http://u:planted-proxy@p:1 is away"
	socket := hostapitest.Serve(t, host.Providers())
	dir := t.TempDir()
	log := filepath.Join(dir, "agent.log")
	if err := os.WriteFile(log, []byte("before\nsplunk-token=planted-token\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "b.tar.gz")
	r := runWith(t, socket, "", "bundle", "--log", log, path)
	if r.code != ExitOK || strings.TrimSpace(r.out) != path {
		t.Fatalf("code %d, %q, %q", r.code, r.out, r.err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	files := unpack(t, path)
	for name, text := range map[string]string{
		"MANIFEST": "never read", "agent/tasks.json": hostapitest.WebTask, "agent/events.json": "X-Amz-Signature=***", "logs/1-agent.log": "splunk-token=***",
		"settings.json": "ECS_CLUSTER", "doctor.json": "containerd", "host/proc/version": "Linux", "agent/status.json": `"cluster": "blue"`,
	} {
		if !strings.Contains(files[name], text) {
			t.Errorf("%s has no %q: %s", name, text, files[name])
		}
	}
	for name, text := range files {
		if strings.Contains(text, "planted") {
			t.Errorf("%s holds a secret: %s", name, text)
		}
	}
	if _, err := os.Stat(path + ".part"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a bundle is left: %v", err)
	}
}

func TestBundleWithoutAnAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.tar.gz")
	r := runWith(t, filepath.Join(t.TempDir(), "absent.sock"), "", "bundle", path)
	if r.code != ExitOK || !strings.Contains(r.err, "not in it: agent/tasks.json: the agent does not answer") {
		t.Errorf("code %d, %q", r.code, r.err)
	}
	if files := unpack(t, path); files["host/proc/version"] == "" || !strings.Contains(files["MANIFEST"], "agent/tasks.json: the agent does not answer") {
		t.Errorf("it holds %q", files["MANIFEST"])
	}
}
