package localcluster_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/wire/ecs"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestPayloadGolden registers task definitions from testdata, runs them, and
// compares the frame that the agent gets with what is written down: the mapping
// of spec control-plane §4.6, member by member.
func TestPayloadGolden(t *testing.T) {
	for _, name := range []string{"full", "small", "host"} {
		t.Run(name, func(t *testing.T) {
			s, _ := start(t, localcluster.Config{Region: "eu-west-1", AccountID: "111122223333"})
			a := register(t, s).connect()
			raw, err := os.ReadFile(filepath.Join("testdata", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			var in struct {
				Definition json.RawMessage    `json:"definition"`
				Run        ecs.RunTaskRequest `json:"run"`
			}
			if err := json.Unmarshal(raw, &in); err != nil {
				t.Fatal(err)
			}
			d := must[ecs.RegisterTaskDefinitionResponse](t, s, ecs.OpRegisterTaskDefinition, in.Definition).TaskDefinition
			in.Run.TaskDefinition = d.TaskDefinitionARN
			runOne(t, s, in.Run)
			a.payload()
			compareGolden(t, filepath.Join("testdata", name+".payload.golden"), payloadFrame(t, s))
			shown := must[ecs.DescribeTaskDefinitionResponse](t, s, ecs.OpDescribeTaskDefinition, ecs.DescribeTaskDefinitionRequest{TaskDefinition: d.Family})
			shown.TaskDefinition.RegisteredAt = ecs.Timestamp{}
			compareGolden(t, filepath.Join("testdata", name+".definition.golden"), indent(t, shown))
		})
	}
}

// changing matches what is different in each run: ids, keys and times.
var changing = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}|ASIA[A-Z0-9]{16}|20\d\d-[01]\d-[0-3]\dT[0-9:]+Z|1[6-9]\d{11}|"seqNum":\d+`)

func payloadFrame(t *testing.T, s *localcluster.Server) []byte {
	t.Helper()
	for _, f := range s.Frames(100) {
		if bytes.Contains([]byte(f.Text), []byte(`"PayloadMessage"`)) {
			masked := changing.ReplaceAllFunc([]byte(f.Text), func(found []byte) []byte {
				if bytes.HasPrefix(found, []byte(`"seqNum"`)) {
					return []byte(`"seqNum":0`)
				}
				return []byte("0")
			})
			return indent(t, json.RawMessage(masked))
		}
	}
	t.Fatal("no payload was sent")
	return nil
}

func indent(t *testing.T, v any) []byte {
	t.Helper()
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func compareGolden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got), -update writes it anew:\n%s", file, diff)
	}
}
