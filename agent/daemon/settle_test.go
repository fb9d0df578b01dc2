package daemon

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	zapobserver "go.uber.org/zap/zaptest/observer"

	"github.com/berthd/berth/agent/awsapi"
	"github.com/berthd/berth/agent/config"
)

// metadataService answers instance metadata with these values.
func metadataService(t *testing.T, values map[string]string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
			_, _ = w.Write([]byte("token"))
			return
		}
		value, ok := values[strings.TrimPrefix(r.URL.Path, "/latest/")]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = w.Write([]byte(value))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// settings are an agent's that read this file and ask this metadata service.
func settings(t *testing.T, file, endpoint string) *agent {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	o := Options{ConfigFile: write("ecs.config", file), Environ: []string{"ECS_AGENT_CONFIG_FILE_PATH=" + filepath.Join(dir, "none")}, Log: zap.NewNop()}
	c, _, err := config.Load(config.Options{File: o.ConfigFile, Environ: o.Environ})
	if err != nil {
		t.Fatal(err)
	}
	o.Config = c
	return &agent{
		options: o, log: zap.NewNop(),
		metadata: awsapi.NewMetadata(awsapi.MetadataConfig{Endpoint: endpoint, Disabled: endpoint == "", DMI: dir}),
	}
}

func TestComplete(t *testing.T) {
	good := metadataService(t, map[string]string{
		"meta-data/instance-id": "i-1", "meta-data/placement/region": "eu-west-1",
		"user-data": `{"ECSAgentConfiguration":{"Cluster":"blue"}}`,
	})
	plain := metadataService(t, map[string]string{"meta-data/instance-id": "i-1", "meta-data/placement/region": "eu-west-1"})
	none := filepath.Join(t.TempDir(), "result.json")
	if err := os.WriteFile(none, []byte(`{"v1":{"datasource":"DataSourceNone","errors":[]}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, file, endpoint, cloudInit string
		cluster, region, problem        string
	}{
		{name: "metadata has all", endpoint: good, cluster: "blue", region: "eu-west-1"},
		{name: "the file wins", file: "ECS_CLUSTER=red\nAWS_DEFAULT_REGION=us-east-1", endpoint: good, cluster: "red", region: "us-east-1"},
		{name: "no user data", endpoint: plain, cluster: "default", region: "eu-west-1"},
		{name: "no metadata", file: "AWS_DEFAULT_REGION=us-east-1", cluster: "default", region: "us-east-1"},
		{name: "no metadata and no region", problem: "set AWS_DEFAULT_REGION"},
		{name: "cloud-init lost its user data", endpoint: good, cloudInit: none, problem: "cloud-init found no data source"},
		{name: "cloud-init had nothing to lose", endpoint: plain, cloudInit: none, cluster: "default", region: "eu-west-1"},
		{name: "cloud-init off EC2", file: "AWS_DEFAULT_REGION=us-east-1", cloudInit: none, cluster: "default", region: "us-east-1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := settings(t, tc.file, tc.endpoint)
			err := a.complete(t.Context(), tc.cloudInit)
			if tc.problem != "" {
				if _, terminal := errors.AsType[*TerminalError](err); !terminal || !strings.Contains(err.Error(), tc.problem) {
					t.Errorf("got %v", err)
				}
				return
			}
			if c := a.options.Config; err != nil || c.Cluster != tc.cluster || c.Region != tc.region {
				t.Errorf("cluster %s, region %s, %v", c.Cluster, c.Region, err)
			}
		})
	}
}

// TestSayIgnored: one line for settings, one for log drivers, and none for a host
// where nobody set either.
func TestSayIgnored(t *testing.T) {
	for file, want := range map[string]string{
		"ECS_CLUSTER=blue": "",
		"ECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\nDOCKER_HOST=unix:///x":              "[ECS_SKIP_LOCALHOST_TRAFFIC_FILTER DOCKER_HOST]",
		`ECS_AVAILABLE_LOGGING_DRIVERS=["json-file","logentries","none"]`:            "[logentries]",
		"ECS_AVAILABLE_LOGGING_DRIVERS=[\"none\"]\nECS_DISABLE_IMAGE_CLEANUP=true\n": "",
	} {
		core, logs := zapobserver.New(zap.WarnLevel)
		a := settings(t, file, "")
		a.log = zap.New(core)
		a.sayIgnored()
		got := ""
		for _, e := range logs.All() {
			for _, v := range e.ContextMap() {
				got += fmt.Sprint(v)
			}
		}
		if got != want {
			t.Errorf("%q says %s, want %s", file, got, want)
		}
	}
}
