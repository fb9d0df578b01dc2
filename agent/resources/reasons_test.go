package resources

import (
	"errors"
	"strings"
	"testing"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
)

// TestReasons compares what a task's user reads with the words of
// spec/task-engine.md §5.7 to §5.9 and §7.4. The engine makes the first letter a
// capital (§1.7).
func TestReasons(t *testing.T) {
	const file = "arn:aws:s3:::settings/a/web.env"
	noRole := func(d *task.Definition) *task.Definition { d.ExecutionRoleID = ""; return d }
	unknownRole := func(d *task.Definition) *task.Definition { d.ExecutionRoleID = "gone"; return d }
	files := func(arns ...string) *task.Definition {
		return definition(task.Container{Fetched: task.Fetched{EnvironmentFiles: arns}})
	}
	registry := func(id string) *task.Definition {
		return definition(task.Container{Fetched: task.Fetched{Registry: &task.Registry{ASM: &task.RegistryASM{CredentialsParameter: id, Region: "eu-west-1"}}}})
	}
	login := func(text string) *cloud {
		return &cloud{secrets: map[SecretVersion]string{{Region: "eu-west-1", ID: dbARN}: text}}
	}
	for name, tc := range map[string]struct {
		cloud *cloud
		task  *task.Definition
		want  string
	}{
		"ssm without role": {task: noRole(withSecrets(ssm("A", "a"))), want: "ssm secret resource: unable to find execution role credentials"},
		"ssm role gone":    {task: unknownRole(withSecrets(ssm("A", "a"))), want: "ssm secret resource: unable to find execution role credentials"},
		"ssm missing": {
			task: withSecrets(ssm("A", "/a"), ssm("B", "b")),
			want: "fetching secret data from SSM Parameter Store in eu-west-1: invalid parameters: /a,b",
		},
		"ssm denied": {
			cloud: &cloud{fails: map[string]error{"eu-west-1 a": errDenied}}, task: withSecrets(ssm("A", "a")),
			want: "fetching secret data from SSM Parameter Store in eu-west-1: " + errDenied.Error(),
		},
		"asm without role": {task: noRole(withSecrets(asm("A", dbARN))), want: "ASM secret resource: unable to find execution role credentials"},
		"asm no ARN": {
			task: withSecrets(asm("A", "db")),
			want: "trying to retrieve secret with value db resulted in error: an invalid ARN format for the AWS Secrets Manager secret was specified. Specify a valid ARN and try again.",
		},
		"asm half an ARN": {
			task: withSecrets(asm("A", dbARN+":user")),
			want: "trying to retrieve secret with value " + dbARN + ":user resulted in error: an invalid ARN format for the AWS Secrets Manager secret was specified. Specify a valid ARN and try again.",
		},
		"asm missing": {
			task: withSecrets(asm("A", dbARN)),
			want: "ResourceNotFoundException: The task can't retrieve the secret with ARN '" + dbARN + "' from AWS Secrets Manager. Check whether the secret exists in the specified Region: ResourceNotFoundException: Secrets Manager can't find the specified secret.",
		},
		"asm denied": {
			cloud: &cloud{fails: map[string]error{dbARN: errDenied}}, task: withSecrets(asm("A", dbARN+":user::"), asm("B", dbARN)),
			want: "secret " + dbARN + ": " + errDenied.Error(),
		},
		"asm no such key": {
			cloud: login(`{"user":"u","none":null}`), task: withSecrets(asm("A", dbARN+":password::"), asm("B", dbARN+":none::"), asm("C", "x")),
			want: "trying to retrieve secret with value " + dbARN + ":password:: resulted in error: retrieved secret from Secrets Manager did not contain json key password" +
				";trying to retrieve secret with value " + dbARN + ":none:: resulted in error: retrieved secret from Secrets Manager did not contain json key none" +
				";trying to retrieve secret with value x resulted in error: an invalid ARN format for the AWS Secrets Manager secret was specified. Specify a valid ARN and try again.",
		},
		"asm no JSON": {
			cloud: login("hunter2"), task: withSecrets(asm("A", dbARN+":user::")),
			want: "trying to retrieve secret with value " + dbARN + ":user:: resulted in error: the secret is not a JSON object",
		},
		"a zero byte": {
			cloud: login("a\x00b"), task: withSecrets(asm("A", dbARN)),
			want: "secret A: the value has a zero byte, which no environment variable can hold",
		},

		"registry without role": {task: noRole(registry(dbARN)), want: "asm resource: unable to find execution role credentials"},
		"registry denied": {
			cloud: &cloud{fails: map[string]error{dbARN: errDenied}}, task: registry(dbARN),
			want: "asm fetching secret from the service for " + dbARN + ": " + errDenied.Error(),
		},
		"registry empty":       {cloud: login(""), task: registry(dbARN), want: "asm fetching authorization data: empty secrets value"},
		"registry no JSON":     {cloud: login("hunter2"), task: registry(dbARN), want: "asm fetching authorization data: unable to unmarshal secret value, invalid schema"},
		"registry no user":     {cloud: login(`{"password":"p"}`), task: registry(dbARN), want: "asm fetching username: AuthorizationData is malformed, empty field"},
		"registry no password": {cloud: login(`{"username":"u"}`), task: registry(dbARN), want: "asm fetching password: AuthorizationData is malformed, empty field"},

		"files without role": {task: noRole(files(file)), want: "environment file resource: unable to find execution role credentials"},
		"files bad ARN": {
			task: files("arn:aws:s3:::only-a-bucket"),
			want: "unable to parse bucket and key from s3 ARN specified in environmentFile arn:aws:s3:::only-a-bucket, error: invalid s3 arn: arn:aws:s3:::only-a-bucket",
		},
		"files bucket denied": {
			cloud: &cloud{fails: map[string]error{"settings": errDenied}}, task: files(file),
			want: "unable to initialize s3 client for bucket settings, error: " + errDenied.Error(),
		},
		"files missing": {
			task: files(file, "x"),
			want: "unable to download env file with key a/web.env from bucket settings, error: NoSuchKey: The specified key does not exist." +
				";unable to parse bucket and key from s3 ARN specified in environmentFile x, error: invalid s3 arn: x",
		},
		"files long line": {
			cloud: &cloud{objects: map[string]string{"settings/a/web.env": "A=" + strings.Repeat("x", 70_000)}}, task: files(file),
			want: "resource cannot be initialized for task " + taskARN + ": cannot read environment file " + file + ": bufio.Scanner: token too long",
		},
		"files zero byte": {
			cloud: &cloud{objects: map[string]string{"settings/a/web.env": "A=\x00"}}, task: files(file),
			want: "resource cannot be initialized for task " + taskARN + ": cannot read environment file " + file + ": it has a zero byte, which no environment variable can hold",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.cloud == nil {
				tc.cloud = &cloud{}
			}
			r, _ := conduct(t, tc.cloud)
			got, err := provision(t, r, tc.task)
			if err == nil || err.Error() != tc.want {
				t.Errorf("\n got %v\nwant %s", err, tc.want)
			}
			if got != nil || err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("something of the secret is told: %v, %v", got, err)
			}
		})
	}
}

// TestPullReasons are those that a container has, as Name: text.
func TestPullReasons(t *testing.T) {
	ecr := func(execution bool) *task.Registry {
		return &task.Registry{ECR: &task.RegistryECR{RegistryID: "111122223333", Region: "eu-west-1", ExecutionRole: execution}}
	}
	for name, tc := range map[string]struct {
		cloud    *cloud
		registry *task.Registry
		role     string
		want     string
	}{
		"no execution role": {registry: ecr(true), want: "CannotPullECRContainerError: engine ecr credentials: not found"},
		"denied": {
			cloud: &cloud{fails: map[string]error{"eu-west-1 111122223333 ": errDenied}}, registry: ecr(true), role: "exec",
			want: "CannotPullECRContainerError: " + errDenied.Error(),
		},
		"denied to the host": {
			cloud: &cloud{fails: map[string]error{"eu-west-1 111122223333 ": errDenied}}, registry: ecr(false),
			want: "CannotPullECRContainerError: " + errDenied.Error(),
		},
		"no data": {
			cloud:    &cloud{fails: map[string]error{"eu-west-1 111122223333 ": missing("ecr auth: missing AuthorizationData in ECR response")}},
			registry: ecr(true), role: "exec", want: "CannotPullECRContainerError: ecr auth: missing AuthorizationData in ECR response for web:1",
		},
		"login missing": {
			registry: &task.Registry{ASM: &task.RegistryASM{CredentialsParameter: dbARN}},
			want:     "CannotPullContainerAuthError: asm resource: unable to find execution role credentials",
		},
		"nothing said": {registry: &task.Registry{}, want: "CannotPullContainerAuthError: engine docker private registry credentials: not found"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.cloud == nil {
				tc.cloud = &cloud{}
			}
			r, _ := conduct(t, tc.cloud)
			d := definition(task.Container{Image: "web:1", Fetched: task.Fetched{Registry: tc.registry}})
			d.ExecutionRoleID = tc.role
			_, err := r.Auth(t.Context(), d, &d.Containers[0])
			if err == nil {
				t.Fatal("no error")
			}
			if got := string(container.KindOf(err, "")) + ": " + err.Error(); got != tc.want {
				t.Errorf("\n got %s\nwant %s", got, tc.want)
			}
			if errors.Is(err, container.ErrUnavailable) {
				t.Error("it would be tried again")
			}
		})
	}
}
