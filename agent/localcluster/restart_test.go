package localcluster_test

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/wire/ecs"
)

// postFault sets faults over HTTP.
func postFault(t *testing.T, s *localcluster.Server, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/_berth/faults", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := answer[localcluster.Faults](t, r); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
}

// TestRestart stops the server with a task running and an instance connected, and
// demands the same cluster from the next one.
func TestRestart(t *testing.T) {
	conf := localcluster.Config{StateFile: filepath.Join(t.TempDir(), "state", "cluster.json")}
	s, stop := start(t, conf)
	a := register(t, s).connect()
	web(t, s, nil)
	arn := runOne(t, s, ecs.RunTaskRequest{ClientToken: "once"})
	p := a.payload()
	a.submit(arn, "RUNNING", ecs.ContainerStateChange{ContainerName: "web", RuntimeID: "r1"})
	before, host := describe(t, s, arn), a.instance()
	stop()

	s, _ = start(t, conf)
	a.s = s
	after, hostAfter := describe(t, s, arn), a.instance()
	before.Connectivity, after.Connectivity = "", ""
	before.ConnectivityAt, after.ConnectivityAt = ecs.Timestamp{}, ecs.Timestamp{}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the task changed (-before +after):\n%s", diff)
	}
	host.AgentConnected = false
	if diff := cmp.Diff(host, hostAfter); diff != "" {
		t.Errorf("the instance changed (-before +after):\n%s", diff)
	}
	if again := runOne(t, s, ecs.RunTaskRequest{ClientToken: "once"}); again != arn {
		t.Error("the client token was forgotten")
	}
	in := registration()
	in.ContainerInstanceARN = a.arn
	if out := must[ecs.RegisterContainerInstanceResponse](t, s, ecs.OpRegisterContainerInstance, in); out.ContainerInstance.ContainerInstanceARN != a.arn || out.ContainerInstance.RunningTasksCount != 1 {
		t.Errorf("registered again as %+v", out.ContainerInstance)
	}
	a.connect()
	if again := a.payload(); again.Tasks[0].ARN != arn || again.SeqNum <= p.SeqNum {
		t.Errorf("payload after the restart: %+v", again)
	}
	if info, err := os.Stat(conf.StateFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("state file: %v, %v", info, err)
	}
}

func TestBrokenStateFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cluster.json")
	if err := os.WriteFile(file, []byte(`{"tasks":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := localcluster.New(localcluster.Config{StateFile: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v, want an error that names the file", err)
	}
}

// TestStateCannotBeKept: what is not on disk is not answered as done.
func TestStateCannotBeKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	s, stop := start(t, localcluster.Config{StateFile: filepath.Join(dir, "cluster.json")})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := call[ecs.CreateClusterResponse](t, s, ecs.OpCreateCluster, ecs.CreateClusterRequest{ClusterName: "x"}); !errors.Is(err, &ecs.Error{Type: ecs.ErrTypeServer}) {
		t.Errorf("got %v", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	must[ecs.CreateClusterResponse](t, s, ecs.OpCreateCluster, ecs.CreateClusterRequest{ClusterName: "y"})
	stop()
}

func TestRegistryRestart(t *testing.T) {
	conf := localcluster.Config{RegistryDir: t.TempDir()}
	s, stop := start(t, conf)
	image, err := random.Image(1024, 2)
	if err != nil {
		t.Fatal(err)
	}
	index, err := random.Index(512, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	old, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref := func(s *localcluster.Server, text string) name.Reference {
		t.Helper()
		r, err := name.ParseReference(s.Addr() + "/" + text)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, err := range []error{
		remote.Write(ref(s, "team/web:1"), old), remote.Write(ref(s, "team/web:1"), image),
		remote.WriteIndex(ref(s, "multi:1"), index),
		remote.Write(ref(s, "team/gone:1"), image), remote.Delete(ref(s, "team/gone:1")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	stop()
	s, _ = start(t, conf)
	got, err := remote.Image(ref(s, "team/web:1"))
	if err != nil {
		t.Fatal(err)
	}
	digest, _ := got.Digest()
	if want, _ := image.Digest(); digest != want {
		t.Errorf("digest %s, want %s", digest, want)
	}
	layers, err := got.Layers()
	if err != nil || len(layers) != 2 {
		t.Fatalf("layers: %d, %v", len(layers), err)
	}
	content, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	var raw bytes.Buffer
	if _, err := raw.ReadFrom(content); err != nil || raw.Len() == 0 {
		t.Errorf("layer: %d bytes, %v", raw.Len(), err)
	}
	// A pull that goes on where it was broken off.
	layer, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"/v2/team/web/blobs/"+layer.String(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Range", "bytes=5-")
	resumed, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resumed.Body.Close() }()
	if resumed.StatusCode != http.StatusOK || resumed.ContentLength != int64(raw.Len()) {
		t.Errorf("a range without an end: %s, %d bytes, want all %d", resumed.Status, resumed.ContentLength, raw.Len())
	}
	oldDigest, _ := old.Digest()
	if _, err := remote.Image(ref(s, "team/web@"+oldDigest.String())); err != nil {
		t.Errorf("an image whose tag moved on is lost: %v", err)
	}
	if _, err := remote.Index(ref(s, "multi:1")); err != nil {
		t.Errorf("index: %v", err)
	}
	if _, err := remote.Head(ref(s, "team/gone:1")); err == nil {
		t.Error("a deleted image is back")
	}
}
