package localcluster

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/agent/wire/ecs"
)

// TestRequiredAttributes holds the table of spec control-plane §2.4.
func TestRequiredAttributes(t *testing.T) {
	const p1, p2 = oldCapability, capability
	for _, tc := range []struct {
		name string
		in   ecs.TaskDefinition
		want []string
	}{
		{"plain", ecs.TaskDefinition{ContainerDefinitions: []ecs.ContainerDefinition{{}}}, nil},
		{"task role", ecs.TaskDefinition{TaskRoleARN: "r"}, []string{p1 + "task-iam-role"}},
		{"task role on host network", ecs.TaskDefinition{TaskRoleARN: "r", NetworkMode: "host"}, []string{p1 + "task-iam-role", p1 + "task-iam-role-network-host"}},
		{"awsvpc", ecs.TaskDefinition{NetworkMode: "awsvpc"}, []string{p2 + "task-eni"}},
		{"pid mode", ecs.TaskDefinition{PIDMode: "task"}, []string{p2 + "pid-ipc-namespace-sharing"}},
		{"proxy", ecs.TaskDefinition{ProxyConfiguration: &ecs.ProxyConfiguration{}}, []string{p2 + "aws-appmesh"}},
		{"awslogs", one(ecs.ContainerDefinition{LogConfiguration: &ecs.LogConfiguration{LogDriver: "awslogs"}}), []string{p1 + "logging-driver.awslogs", remoteAPI + "1.19"}},
		{"splunk", one(ecs.ContainerDefinition{LogConfiguration: &ecs.LogConfiguration{LogDriver: "splunk"}}), []string{p1 + "logging-driver.splunk"}},
		{"ECR", one(ecs.ContainerDefinition{Image: "1.dkr.ecr.us-east-1.amazonaws.com/a"}), []string{p1 + "ecr-auth"}},
		{"ECR in China", one(ecs.ContainerDefinition{Image: "1.dkr.ecr.cn-north-1.amazonaws.com.cn/a"}), []string{p1 + "ecr-auth"}},
		{"health check", one(ecs.ContainerDefinition{HealthCheck: &ecs.HealthCheck{}}), []string{remoteAPI + "1.24", remoteAPI + "1.29", p2 + "container-health-check"}},
		{"stop timeout", one(ecs.ContainerDefinition{StopTimeout: new(1)}), []string{p2 + "container-ordering"}},
		{"privileged", one(ecs.ContainerDefinition{Privileged: true}), []string{p1 + "privileged-container"}},
		{"apparmor", one(ecs.ContainerDefinition{DockerSecurityOptions: []string{"apparmor:x"}}), []string{p1 + "apparmor"}},
		{"secret", one(ecs.ContainerDefinition{Secrets: []ecs.Secret{{ValueFrom: "/name"}}}), []string{p2 + "secrets.ssm.environment-variables"}},
		{"firelens", one(ecs.ContainerDefinition{FirelensConfiguration: &ecs.FirelensConfiguration{Type: "fluentbit", Options: map[string]string{"config-file-type": "s3"}}}), []string{p2 + "firelens.fluentbit", p2 + "firelens.options.config.s3"}},
		{"firelens of another user", one(ecs.ContainerDefinition{User: "1000:1000", FirelensConfiguration: &ecs.FirelensConfiguration{Type: "fluentd"}}), []string{p2 + "firelens.fluentd", p2 + "firelens.non-root-user"}},
		{"firelens of root", one(ecs.ContainerDefinition{User: "0:0", FirelensConfiguration: &ecs.FirelensConfiguration{Type: "fluentd"}}), []string{p2 + "firelens.fluentd"}},
		{"awsfirelens with a limit", one(ecs.ContainerDefinition{LogConfiguration: &ecs.LogConfiguration{LogDriver: "awsfirelens", Options: map[string]string{"log-driver-buffer-limit": "1"}}}), []string{p1 + "logging-driver.awsfirelens", p2 + "logging-driver.awsfirelens.log-driver-buffer-limit"}},
		{"secret in China", one(ecs.ContainerDefinition{Secrets: []ecs.Secret{{ValueFrom: "arn:aws-cn:secretsmanager:cn-north-1:1:secret:s"}}}), []string{p2 + "secrets.asm.environment-variables"}},
		{"parameter by ARN", one(ecs.ContainerDefinition{Secrets: []ecs.Secret{{ValueFrom: "arn:aws:ssm:us-east-1:1:parameter/s"}}}), []string{p2 + "secrets.ssm.environment-variables"}},
		{"gMSA", one(ecs.ContainerDefinition{CredentialSpecs: []string{"credentialspec:arn:x"}}), []string{p2 + "gmsa"}},
		{"gMSA without a domain", one(ecs.ContainerDefinition{CredentialSpecs: []string{"credentialspecdomainless:arn:x"}}), []string{p2 + "gmsa-domainless"}},
		{"elastic inference", ecs.TaskDefinition{InferenceAccelerators: []ecs.InferenceAccelerator{{}}}, []string{p2 + "task-eia"}},
		{"faults", ecs.TaskDefinition{EnableFaultInjection: true}, []string{p2 + "fault-injection"}},
		{"EFS with an access point", ecs.TaskDefinition{Volumes: []ecs.Volume{{EFSVolumeConfiguration: &ecs.EFSVolumeConfiguration{AuthorizationConfig: &ecs.EFSAuthorizationConfig{}}}}}, []string{remoteAPI + "1.25", p2 + "efs", p2 + "efsAuth"}},
		{"EBS", ecs.TaskDefinition{Volumes: []ecs.Volume{{ConfiguredAtLaunch: true}}}, []string{p2 + "storage.ebs-task-volume-attach"}},
		{"docker volume", ecs.TaskDefinition{Volumes: []ecs.Volume{{DockerVolumeConfiguration: &ecs.DockerVolumeConfiguration{Driver: "rexray/ebs:1"}}}}, []string{remoteAPI + "1.25", p2 + "docker-plugin.rexray/ebs.1"}},
	} {
		var got []string
		for _, a := range requiredAttributes(&tc.in) {
			if a.Name != remoteAPI+"1.18" {
				got = append(got, a.Name)
			}
		}
		slices.Sort(tc.want)
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}

func one(c ecs.ContainerDefinition) ecs.TaskDefinition {
	return ecs.TaskDefinition{ContainerDefinitions: []ecs.ContainerDefinition{c}}
}

func TestExpressions(t *testing.T) {
	i := &instance{ContainerInstance: ecs.ContainerInstance{
		EC2InstanceID: "i-1", Attributes: []ecs.Attribute{{Name: "ecs.instance-type", Value: "t3.small"}, {Name: "ecs.capability.x"}},
	}, Custom: []ecs.Attribute{{Name: "stack", Value: "prod"}}}
	for text, want := range map[string]bool{
		"":                                  true,
		"attribute:stack == prod":           true,
		"attribute:stack equals test":       false,
		"attribute:stack != test":           true,
		"attribute:none != test":            true,
		"attribute:none == test":            false,
		"attribute:stack in [test, prod]":   true,
		"attribute:stack not_in [prod]":     false,
		"attribute:ecs.capability.x exists": true,
		"attribute:none !exists":            true,
		"attribute:none exists":             false,
		"attribute:ecs.instance-type =~ t3.* and attribute:stack == prod": true,
		"attribute:ecs.instance-type !~ t3.*":                             false,
		"attribute:stack == prod && ec2InstanceId == i-2":                 false,
	} {
		m, err := parseExpression(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if got := m(i); got != want {
			t.Errorf("%q: got %v", text, got)
		}
	}
	for _, text := range []string{"stack == prod", "attribute:a =~ (", "attribute:a < 3"} {
		if _, err := parseExpression(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

// TestSweep: a stopped task is known for an hour and then no more.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newState(&environment{stoppedFor: time.Hour})
		s.Tasks["a"] = &task{Task: ecs.Task{LastStatus: ecs.StatusStopped, StoppedAt: now()}}
		s.Tasks["b"] = &task{Task: ecs.Task{LastStatus: ecs.StatusRunning}}
		s.Tokens["t"] = &tokenOutcome{At: now()}
		pass(59 * time.Minute)
		s.sweep()
		if len(s.Tasks) != 2 {
			t.Error("a task was forgotten within the hour")
		}
		pass(2 * time.Minute)
		s.sweep()
		if s.Tasks["a"] != nil || s.Tasks["b"] == nil || len(s.Tokens) != 1 {
			t.Errorf("after an hour: %v", s.Tasks)
		}
		pass(24 * time.Hour)
		s.sweep()
		if len(s.Tokens) != 0 {
			t.Error("a client token is kept for ever")
		}
	})
}

// TestVaultRenews: the same keys for half of their life, then new ones, and the
// old keys still count until they expire.
func TestVaultRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault("", "", time.Hour)
		first := v.issue("id", "role")
		pass(29 * time.Minute)
		if v.issue("id", "role").AccessKeyID != first.AccessKeyID {
			t.Error("renewed too early")
		}
		pass(2 * time.Minute)
		second := v.issue("id", "role")
		if second.AccessKeyID == first.AccessKeyID || second.CredentialsID != "id" {
			t.Errorf("not renewed: %v", second.CredentialsID)
		}
		if got, ok := v.secret(first.AccessKeyID); !ok || got != first.SecretAccessKey {
			t.Error("keys that have not expired must count")
		}
		pass(30 * time.Minute)
		v.retain(nil)
		if _, ok := v.secret(first.AccessKeyID); ok {
			t.Error("expired keys count")
		}
	})
}

func TestPaging(t *testing.T) {
	all := []string{"a", "b", "c", "d", "e"}
	var got []string
	token := ""
	for {
		part, next, err := pageAfter(all, token, 2)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, part...)
		if token = next; token == "" {
			break
		}
	}
	if !slices.Equal(got, all) {
		t.Errorf("got %v", got)
	}
	if _, _, err := pageAfter(all, "zz", 2); err == nil {
		t.Error("a made-up token was taken")
	}
}

// populate puts an instance, a definition and a task into a server that does not
// run, so that damaged calls find something to damage.
func populate(t *testing.T, s *Server) {
	t.Helper()
	st := s.ledger.state
	out, err := st.registerInstance(&ecs.RegisterContainerInstanceRequest{
		TotalResources: []ecs.Resource{{Name: "CPU", Type: "INTEGER", IntegerValue: 1024}, {Name: "MEMORY", Type: "INTEGER", IntegerValue: 1024}},
		Attributes:     []ecs.Attribute{{Name: remoteAPI + "1.18"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.hub.join(s.hub.acs, out.ContainerInstance.ContainerInstanceARN, newSession())
	if _, err := st.registerTaskDefinition(&ecs.RegisterTaskDefinitionRequest{
		Family: "f", ContainerDefinitions: []ecs.ContainerDefinition{{Name: "a", Image: "i", Memory: 8}},
	}); err != nil {
		t.Fatal(err)
	}
	if got, err := st.runTask(&ecs.RunTaskRequest{TaskDefinition: "f"}); err != nil || len(got.Tasks) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
}

// FuzzAPI calls operations with damaged bodies: each gets an answer in the form
// of ECS, and never a ServerException.
func FuzzAPI(f *testing.F) {
	ops := operations()
	names := []string{}
	for name := range ops {
		names = append(names, name)
	}
	slices.Sort(names)
	for i := range names {
		f.Add(uint8(i), []byte(`{"cluster":"default","task":"t","tasks":["t"],"containerInstances":["i"],"family":"f"}`))
	}
	f.Add(uint8(slices.Index(names, ecs.OpRegisterTaskDefinition)), []byte(`{"family":"f","containerDefinitions":[{"name":"a","image":"i","memory":5,"healthCheck":{"command":["x"]}}]}`))
	f.Add(uint8(slices.Index(names, ecs.OpRunTask)), []byte(`{"taskDefinition":"f","overrides":{"containerOverrides":[{"name":"a"}]},"count":2}`))
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		s, err := New(Config{Log: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		populate(t, s)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
		r.Header.Set(ecs.TargetHeader, ecs.Target+names[int(which)%len(names)])
		w := httptest.NewRecorder()
		s.serveAPI(w, r)
		if w.Code == http.StatusInternalServerError || (w.Code != http.StatusOK && !strings.Contains(w.Body.String(), `"__type"`)) {
			t.Errorf("%s: %d %s", r.Header.Get(ecs.TargetHeader), w.Code, w.Body)
		}
	})
}

// pass lets time go by on the clock of a synctest bubble.
func pass(d time.Duration) { <-time.NewTimer(d).C }

// TestLoan: what is lent is given to roles, counts as long as it lasts, and is
// shown to nobody.
func TestLoan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault("", "", 6*time.Hour)
		fails := false
		v.loan = func() (acs.IAMRoleCredentials, time.Time, error) {
			if fails {
				return acs.IAMRoleCredentials{}, time.Time{}, errors.New("none")
			}
			return acs.IAMRoleCredentials{AccessKeyID: "mine", SecretAccessKey: "s", SessionToken: "t"}, time.Now().Add(time.Hour), nil
		}
		got := v.issue("id", "role")
		want := acs.IAMRoleCredentials{
			CredentialsID: "id", RoleARN: "role", AccessKeyID: "mine", SecretAccessKey: "s", SessionToken: "t",
			Expiration: time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
		}
		if *got != want {
			t.Error("the credentials that were lent were not given")
		}
		if secret, ok := v.secret("mine"); !ok || secret != "s" {
			t.Error("they do not count")
		}
		if owner, ok := v.owner("mine"); ok || owner != (KeyOwner{}) {
			t.Error("they are shown")
		}
		fails = true
		if again := v.issue("id", "role"); *again != want {
			t.Error("they are taken back when they cannot be renewed")
		}
		if other := v.issue("other", "role"); other.AccessKeyID == "mine" || other.AccessKeyID == "" {
			t.Error("nothing is made up where nothing is lent")
		}
	})
	if _, err := New(Config{Loan: func() (acs.IAMRoleCredentials, time.Time, error) { return acs.IAMRoleCredentials{}, time.Time{}, nil }}); err == nil {
		t.Error("a server lends credentials to anybody who asks")
	}
}
