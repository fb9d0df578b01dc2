package localcluster_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/wire/ecs"
)

// awsCLI is Debian's; another one first on the PATH is not what users here have.
const awsCLI = "/usr/bin/aws"

// cli runs the AWS CLI against the server, signed with its keys.
func cli(t *testing.T, s *localcluster.Server, args ...string) (string, error) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), awsCLI, append([]string{"--endpoint-url", s.URL(), "--output", "json", "--no-cli-pager", "ecs"}, args...)...)
	cmd.Env = []string{
		"PATH=/usr/bin:/bin", "HOME=" + home, "AWS_ACCESS_KEY_ID=AKIDLOCAL", "AWS_SECRET_ACCESS_KEY=" + secret,
		"AWS_DEFAULT_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true", "NO_PROXY=127.0.0.1",
	}
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(out), errors.New(strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}

func mustCLI(t *testing.T, s *localcluster.Server, args ...string) map[string]any {
	t.Helper()
	out, err := cli(t, s, args...)
	if err != nil {
		t.Fatalf("aws ecs %s: %v", strings.Join(args, " "), err)
	}
	var parsed map[string]any
	if out != "" {
		if err := json.Unmarshal([]byte(out), &parsed); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
	}
	return parsed
}

// TestAWSCommandLine is the way of a user: register from a file, run, wait, look,
// stop, wait; with every call signed and every answer read by the CLI's model.
func TestAWSCommandLine(t *testing.T) {
	if testing.Short() {
		t.Skip("needs ten seconds for starting the AWS CLI many times: run without -short")
	}
	if _, err := os.Stat(awsCLI); err != nil {
		t.Skip("needs the AWS CLI of Debian: apt-get install awscli")
	}
	conf := localcluster.Config{AccessKey: "AKIDLOCAL", SecretKey: secret, StateFile: filepath.Join(t.TempDir(), "cluster.json")}
	s, stop := start(t, conf)
	mustCLI(t, s, "create-cluster", "--cluster-name", "shop", "--tags", "key=a,value=b")
	if out, err := cli(t, s, "list-tasks", "--cluster", "none"); err == nil || !strings.Contains(err.Error(), "(ClusterNotFoundException) when calling the ListTasks operation: Cluster not found.") {
		t.Errorf("a missing cluster: %s, %v", out, err)
	}
	file := filepath.Join(t.TempDir(), "definition.json")
	definition := `{"family":"web","containerDefinitions":[{"name":"web","image":"127.0.0.1/web:1","memory":64,"portMappings":[{"containerPort":80,"hostPort":8080}]}]}`
	if err := os.WriteFile(file, []byte(definition), 0o600); err != nil {
		t.Fatal(err)
	}
	mustCLI(t, s, "register-task-definition", "--cli-input-json", "file://"+file)
	if out, err := cli(t, s, "register-task-definition", "--family", "x", "--container-definitions", `[{"name":"a","image":"b"}]`); err == nil || !strings.Contains(err.Error(), "At least one of 'memory' or 'memoryReservation' must be specified.") {
		t.Errorf("a definition without memory: %s, %v", out, err)
	}
	stop()

	// The agent's stand-in does not sign, so the rest runs without strict keys,
	// on the state of before.
	conf.AccessKey, conf.SecretKey = "", ""
	s, _ = start(t, conf)
	a := register(t, s).connect()
	run := mustCLI(t, s, "run-task", "--task-definition", "web", "--started-by", "me", "--tags", "key=team,value=shop",
		"--overrides", `{"containerOverrides":[{"name":"web","command":["serve"],"environment":[{"name":"A","value":"1"}]}],"taskRoleArn":""}`)
	tasks, _ := run["tasks"].([]any)
	if len(tasks) != 1 {
		t.Fatalf("run-task: %v", run)
	}
	first, _ := tasks[0].(map[string]any)
	arn, _ := first["taskArn"].(string)
	p := a.payload()
	if c := p.Tasks[0].Containers[0]; c.Environment["A"] != "1" || c.Overrides != `{"command":["serve"]}` {
		t.Errorf("overrides did not arrive: %+v", c)
	}
	a.submit(arn, "RUNNING", ecs.ContainerStateChange{
		ContainerName: "web", RuntimeID: "r1", NetworkBindings: []ecs.NetworkBinding{{BindIP: "0.0.0.0", ContainerPort: 80, HostPort: 8080, Protocol: "tcp"}},
	})
	mustCLI(t, s, "wait", "tasks-running", "--tasks", arn)
	if out, err := cli(t, s, "describe-tasks", "--tasks", arn, "--include", "TAGS", "--query", "tasks[0].[lastStatus,containers[0].networkBindings[0].hostPort,tags[0].value,startedBy]"); err != nil || strings.Join(strings.Fields(out), "") != `["RUNNING",8080,"shop","me"]` {
		t.Errorf("describe-tasks: %s, %v", out, err)
	}
	if out, err := cli(t, s, "describe-container-instances", "--container-instances", a.arn, "--query", "containerInstances[0].[agentConnected,runningTasksCount,remainingResources[?name=='PORTS'].stringSetValue[]]"); err != nil || strings.Join(strings.Fields(out), "") != `[true,1,["22","8080","51678"]]` {
		t.Errorf("describe-container-instances: %s, %v", out, err)
	}
	mustCLI(t, s, "stop-task", "--task", arn, "--reason", "test")
	a.payload()
	a.submit(arn, "STOPPED", ecs.ContainerStateChange{ContainerName: "web", RuntimeID: "r1", ExitCode: new(0)})
	mustCLI(t, s, "wait", "tasks-stopped", "--tasks", arn)
	if out, err := cli(t, s, "describe-tasks", "--tasks", arn, "--query", "tasks[0].[stopCode,stoppedReason,containers[0].exitCode]"); err != nil || strings.Join(strings.Fields(out), "") != `["UserInitiated","test",0]` {
		t.Errorf("describe-tasks: %s, %v", out, err)
	}
	mustCLI(t, s, "deregister-task-definition", "--task-definition", "web:1")
	mustCLI(t, s, "list-container-instances", "--filter", "attribute:ecs.os-type == linux")
	mustCLI(t, s, "put-attributes", "--attributes", "name=stack,value=prod,targetId="+a.arn)
	mustCLI(t, s, "list-attributes", "--target-type", "container-instance", "--attribute-name", "stack")
	mustCLI(t, s, "update-container-instances-state", "--container-instances", a.arn, "--status", "DRAINING")
}
