package agent_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/agent/control/acs"
	"github.com/berthd/berth/agent/task"
	wire "github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/runtime/container"
)

// TestReasons compares what a person reads in ECS with the words of the ECS agent,
// which people search for and write alarms on (spec/task-engine.md §1.6 to §2.3,
// §5.1, §5.3, §7.5). Each text is brought about, and not looked up.
func TestReasons(t *testing.T) {
	const arn = "arn:aws:ecs:eu-west-1:111122223333:task/c/t1"
	for _, tc := range []struct {
		name string
		got  string
		want string
	}{
		{
			"a dependency that did not succeed", played(arn, "exited init 1"),
			"web 143 CannotStartContainerError: dependency graph: failed to resolve container ordering dependency [init(img) (STOPPED->RUNNING) - Exit: 1] for target [web(img) (NONE->RUNNING)] as dependency did not exit successfully.",
		},
		{
			"a dependency whose end nobody saw", played(arn, "vanished init"),
			"web 143 CannotStartContainerError: dependency graph: failed to resolve container ordering dependency [init(img) (STOPPED->RUNNING)] for target [web(img) (NONE->RUNNING)] as dependency did not exit successfully.",
		},
		{
			"a dependency that took too long", played(arn, "late init"),
			"web 143 CannotStartContainerError: dependency graph: container ordering dependency [init(img) (RUNNING->RUNNING)] for target [web(img) (NONE->RUNNING)] has timed out.",
		},
		{
			"a dependency that never starts", played(arn, "unstartable init"),
			"web 143 CannotStartContainerError: dependency graph: failed to resolve container ordering dependency [init(img) (CREATED->STOPPED)] for target [web(img) (NONE->RUNNING)] because dependency will never start",
		},
		{
			"a dependency that is not there", played(arn, "ghost"),
			"web 143 CannotStartContainerError: dependency graph: container ordering dependency [<nil>] for target [web(img) (NONE->RUNNING)] does not exist.",
		},
		{"a cycle", played(arn, "cycle"), "Task dependencies cannot be resolved, taskArn: " + arn},
		{"health of a container without a check", played(arn, "unhealthy"), "Task dependencies cannot be resolved, taskArn: " + arn},
		{"out of memory", played(arn, "oom init"), "init 137 OutOfMemoryError: Container killed due to memory usage"},
		{"gone", played(arn, "vanished init"), "init - ContainerVanishedError: No container matching saved ID found"},
		{"stopped before its pull", played(arn, "stopped"), "init - TaskStoppedBeforePullBeginError: Task stopped before image pull could begin for task: " + arn},
		{"not to be stopped", played(arn, "unkillable init"), "init - DockerTimeoutError: Could not transition to stopped; timed out after waiting 2m30s"},
		{"nameless", task.Failure{Text: "odd"}.String(), "UnknownError: odd"},

		{"a link in bad form", refusal(t, arn, `"links":["a:b:c"]`), "invalid link format"},
		{"a link to nobody", refusal(t, arn, `"links":["db:d"]`), "could not find container for link db:d"},
		{"volumes from nobody", refusal(t, arn, `"volumesFrom":[{"sourceContainer":"db"}]`), "could not find volume source container with name db"},
		{"volumes from itself", refusal(t, arn, `"volumesFrom":[{"sourceContainer":"web"}]`), "Task dependencies cannot be resolved, taskArn: " + arn},
		{"an unknown volume", refusal(t, arn, `"mountPoints":[{"sourceVolume":"v","containerPath":"/v"}]`), "HostConfigError: Invalid volume referenced: v"},
		{"health without a check", refusal(t, arn, `"healthCheckType":"docker"`), "DockerClientConfigError: docker health check is nil while container health check type is DOCKER"},
		{"a damaged config", refusal(t, arn, `"dockerConfig":{"config":"{"}`), "DockerClientConfigError: Unable decode given docker config: unexpected end of JSON input"},
		{"a damaged host config", refusal(t, arn, `"dockerConfig":{"hostConfig":"{"}`), "HostConfigError: Unable to decode given host config: unexpected end of JSON input"},
		{
			"more memory than the task", refusal(t, arn, `"memory":600`),
			"resource cannot be initialized for task " + arn + ": cgroup resource: unable to build resource spec for task: task memory spec builder: container memory limit(600) greater than task memory limit(512)",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if !strings.Contains(tc.got, tc.want) {
				t.Errorf("\n got %s\nwant %s", tc.got, tc.want)
			}
		})
	}
}

// TestErrorNames compares the names of errors with those of the ECS agent.
func TestErrorNames(t *testing.T) {
	for got, want := range map[string]string{
		string(container.KindManifest):  "CannotPullImageManifestError",
		string(container.KindPull):      "CannotPullContainerError",
		string(container.KindCreate):    "CannotCreateContainerError",
		string(container.KindStart):     "CannotStartContainerError",
		string(container.KindStop):      "CannotStopContainerError",
		string(container.KindInspect):   "CannotInspectContainerError",
		string(container.KindRemove):    "CannotRemoveContainerError",
		string(container.KindTimeout):   "DockerTimeoutError",
		string(container.KindConfig):    "DockerClientConfigError",
		string(container.KindHost):      "HostConfigError",
		string(container.KindNetwork):   "ContainerNetworkingError",
		string(container.KindResources): "ResourceInitializationError",
		string(container.KindPullECR):   "CannotPullECRContainerError",
		string(container.KindPullAuth):  "CannotPullContainerAuthError",
		task.AgentStarted:               "ExecuteCommandAgent started", task.AgentRestarted: "ExecuteCommandAgent restarted",
		task.AgentNotRestarted: "ExecuteCommandAgent cannot be restarted", task.AgentNotInitialised: "ExecuteCommandAgent Initialization failed - ",
		task.AgentContainerStopped: "Received Container Stopped event",
	} {
		if got != want {
			t.Errorf("%q is not %q", got, want)
		}
	}
}

// refusal is why a task whose one container has those members is refused.
func refusal(t *testing.T, arn, members string) string {
	t.Helper()
	text := fmt.Sprintf(`{"arn":%q,"desiredStatus":"RUNNING","memory":512,"containers":[{"name":"web","image":"img",%s}]}`, arn, members)
	var w wire.Task
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		t.Fatal(err)
	}
	_, err := acs.Conversion{}.Convert(&w, "tasks[0]")
	refused, ok := errors.AsType[*acs.SetUpError](err)
	if !ok {
		return fmt.Sprintf("not of set-up: %v", err)
	}
	return refused.Reason
}

// played is what ECS hears of a task to whose first container something happens:
// web waits for init to succeed.
func played(arn, event string) string {
	what, name, _ := strings.Cut(event, " ")
	name, _, _ = strings.Cut(name, " ")
	d := task.Definition{ARN: arn, ID: "t1", Containers: []task.Container{
		{Name: "init", Image: "img", Lifecycle: task.Lifecycle{StartTimeout: time.Minute}},
		{Name: "web", Image: "img", Essential: true, Lifecycle: task.Lifecycle{DependsOn: []task.Dependency{{Container: "init", Condition: task.ConditionSuccess}}}},
	}}
	switch what {
	case "ghost":
		d.Containers[1].DependsOn[0].Container = "ghost"
	case "cycle":
		d.Containers[0].DependsOn = []task.Dependency{{Container: "web", Condition: task.ConditionStart}}
	case "unhealthy":
		d.Containers[1].DependsOn[0].Condition = task.ConditionHealthy
	}
	now := time.Unix(1_700_000_000, 0)
	m := task.New(d, now, task.Options{})
	heard := &strings.Builder{}
	tell := func(facts ...task.Fact) {
		for _, f := range facts {
			m.Apply(f)
			listen(heard, m.Next())
		}
	}
	tell(task.Admitted{}, task.Prepared{})
	if what == "stopped" {
		// A pull that was cancelled before it began.
		tell(task.StopRequested{At: now}, task.PullFailed{Container: "init", Cancelled: true, At: now})
		return heard.String()
	}
	tell(task.Pulled{Container: name, At: now}, task.Created{Container: name, At: now})
	if what == "unstartable" {
		tell(task.StartFailed{Container: name, At: now, Failure: task.Failure{Name: "SomeError"}})
		return heard.String()
	}
	tell(task.Started{Container: name, At: now})
	switch what {
	case "exited":
		tell(task.Exited{Container: name, Exit: container.Exit{Code: 1, Known: true, At: now}})
	case "oom":
		tell(task.Exited{Container: name, Exit: container.Exit{Code: 137, Known: true, OOMKilled: true, At: now}})
	case "vanished":
		tell(task.Vanished{Container: name, At: now})
	case "late":
		tell(task.StartTimedOut{Container: name}, task.DrainDue{})
	case "unkillable":
		tell(task.StopRequested{At: now}, task.Signalled{Container: name, At: now}, task.StopTimedOut{Container: name},
			task.Signalled{Container: name, Kill: true, At: now}, task.StopTimedOut{Container: name})
	}
	return heard.String()
}

// listen writes down what work tells ECS.
func listen(to *strings.Builder, work []task.Work) {
	for _, w := range work {
		report, ok := w.(task.Report)
		if !ok {
			continue
		}
		fmt.Fprintf(to, "%s\n", report.Change.Reason)
		for _, c := range report.Change.Containers {
			code := "-"
			if c.ExitCode != nil {
				code = fmt.Sprint(*c.ExitCode)
			}
			fmt.Fprintf(to, "%s %s %s\n", c.Name, code, c.Reason)
		}
	}
}
