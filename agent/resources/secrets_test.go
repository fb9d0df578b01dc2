package resources

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/task"
)

func ssm(name, from string) task.Secret {
	return task.Secret{Name: name, Provider: "ssm", ValueFrom: from, Region: "eu-west-1"}
}

func asm(name, from string) task.Secret {
	return task.Secret{Name: name, Provider: "asm", ValueFrom: from, Region: "eu-west-1"}
}

const dbARN = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:db-AbCdEf"

func TestParameters(t *testing.T) {
	c := &cloud{parameters: map[string]string{
		"eu-west-1 plain": "a", "eu-west-1 /deep/er": "b", "eu-north-1 plain": "c", "eu-west-1 /slash": "wrong name",
		"eu-west-1 arn:aws:ssm:eu-west-1:111122223333:parameter/slash":    "d",
		"eu-west-1 arn:aws:ssm:eu-west-1:999999999999:parameter/deep/er2": "e",
	}}
	r, _ := conduct(t, c)
	far := ssm("FAR", "plain")
	far.Region = "eu-north-1"
	noRegion := ssm("NO_REGION", "arn:aws:ssm:eu-north-1:111122223333:parameter/plain")
	noRegion.Region = ""
	got, err := provision(t, r, withSecrets(
		ssm("PLAIN", "plain"), ssm("AGAIN", "plain"), ssm("DEEP", "/deep/er"),
		ssm("BY_ARN", "arn:aws:ssm:eu-west-1:111122223333:parameter/plain"),
		ssm("DEEP_BY_ARN", "arn:aws:ssm:eu-west-1:111122223333:parameter/deep/er"),
		ssm("SLASH_BY_ARN", "arn:aws:ssm:eu-west-1:111122223333:parameter/slash"),
		ssm("OTHER_ACCOUNT", "arn:aws:ssm:eu-west-1:999999999999:parameter/deep/er2"),
		far, noRegion))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"PLAIN=a", "AGAIN=a", "DEEP=b", "BY_ARN=a", "DEEP_BY_ARN=b", "SLASH_BY_ARN=d", "OTHER_ACCOUNT=e", "FAR=c", "NO_REGION=c"}
	if diff := cmp.Diff(want, []string(got["web"].SecretEnv)); diff != "" {
		t.Error(diff)
	}
	slices.Sort(c.asked)
	if diff := cmp.Diff([]string{
		"ASIA1 eu-north-1 plain",
		"ASIA1 eu-west-1 arn:aws:ssm:eu-west-1:111122223333:parameter/slash",
		"ASIA1 eu-west-1 plain,/deep/er,slash,arn:aws:ssm:eu-west-1:999999999999:parameter/deep/er2",
	}, c.asked); diff != "" {
		t.Error(diff)
	}
}

func TestParametersAreAskedForInTens(t *testing.T) {
	c := &cloud{parameters: map[string]string{}}
	var secrets []task.Secret
	for i := range 25 {
		name := fmt.Sprintf("P%02d", i)
		c.parameters["eu-west-1 "+name] = name
		secrets = append(secrets, ssm(name, name))
	}
	r, _ := conduct(t, c)
	got, err := provision(t, r, withSecrets(secrets...))
	if err != nil || len(got["web"].SecretEnv) != 25 || len(c.asked) != 3 {
		t.Errorf("%d values in %d calls, %v", len(got["web"].SecretEnv), len(c.asked), err)
	}
}

func TestManagedSecrets(t *testing.T) {
	previous := SecretVersion{Region: "eu-west-1", ID: dbARN, Stage: "AWSPREVIOUS"}
	byID := SecretVersion{Region: "eu-west-1", ID: dbARN, Version: "v1"}
	c := &cloud{secrets: map[SecretVersion]string{
		{Region: "eu-west-1", ID: dbARN}: `{"user":"u\u00e4","port":5432,"big":1000000,"exact":12345678901234567890,"ratio":1.50,"on":true,"tags":{"a":[1, 2]},"empty":"","no":null}`,
		previous:                         "the one before",
		byID:                             `{"user":"first"}`,
	}}
	r, _ := conduct(t, c)
	got, err := provision(t, r, withSecrets(
		asm("WHOLE", dbARN+"::AWSPREVIOUS:"), asm("USER", dbARN+":user::"), asm("PORT", dbARN+":port::"), asm("BIG", dbARN+":big::"),
		asm("EXACT", dbARN+":exact::"), asm("RATIO", dbARN+":ratio::"), asm("ON", dbARN+":on::"), asm("TAGS", dbARN+":tags::"),
		asm("EMPTY", dbARN+":empty::"), asm("BY_ID", dbARN+":user::v1")))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"WHOLE=the one before", "USER=uä", "PORT=5432", "BIG=1000000", "EXACT=12345678901234567890", "RATIO=1.50", "ON=true", `TAGS={"a":[1, 2]}`, "EMPTY=", "BY_ID=first"}
	if diff := cmp.Diff(want, []string(got["web"].SecretEnv)); diff != "" {
		t.Error(diff)
	}
	if len(c.asked) != 3 {
		t.Errorf("%d versions were asked for, and not three: %v", len(c.asked), c.asked)
	}
}

func TestSecretsAsLogOptions(t *testing.T) {
	c := &cloud{parameters: map[string]string{"eu-west-1 token": "t0", "eu-west-1 key": "k0"}}
	r, _ := conduct(t, c)
	option := ssm("splunk-token", "token")
	option.LogOption = true
	logs := task.Container{Name: "logs", Log: task.Log{Driver: "splunk", Options: map[string]string{"splunk-url": "https://x"}}, Fetched: task.Fetched{Secrets: []task.Secret{option, ssm("KEY", "key")}}}
	silent := task.Container{Name: "silent", Fetched: task.Fetched{Secrets: []task.Secret{option}}}
	d := definition(logs, silent)
	got, err := provision(t, r, d)
	if err != nil {
		t.Fatal(err)
	}
	o := got["logs"]
	if o.Log == nil || o.Log.Driver != "splunk" || o.Log.Options["splunk-url"] != "https://x" || o.Log.Secrets["splunk-token"] != "t0" {
		t.Errorf("the log driver gets %+v", o.Log)
	}
	if diff := cmp.Diff([]string{"KEY=k0"}, []string(o.SecretEnv)); diff != "" {
		t.Error(diff)
	}
	if got["silent"].Log != nil {
		t.Error("a container without a log driver was given options for one")
	}
	if _, leaked := d.Containers[0].Log.Options["splunk-token"]; leaked || d.Containers[0].Log.Secrets != nil {
		t.Error("the value is in the definition, which is written down")
	}
}

// Keys that ECS has still to send again are waited for, and a task without an
// execution role fails at once.
func TestSecretsWaitForKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cloud{parameters: map[string]string{"eu-west-1 p": "v"}}
		keys := credentials.New()
		keys.Expect(taskARN, credentials.Execution, "exec")
		r := New(Config{Keys: keys, Parameters: c})
		var got map[string]Outfit
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			got, err = r.Provision(t.Context(), Task{Definition: withSecrets(ssm("P", "p"))})
		}()
		synctest.Wait()
		keys.Put(credentials.Set{ID: "another", AccessKeyID: "ASIA0"})
		synctest.Wait()
		if len(c.asked) != 0 {
			t.Fatal("asked without keys")
		}
		keys.Put(credentials.Set{ID: "exec", AccessKeyID: "ASIA2"})
		<-done
		if err != nil || len(got["web"].SecretEnv) != 1 || c.asked[0] != "ASIA2 eu-west-1 p" {
			t.Errorf("%v, %v, %v", got, err, c.asked)
		}
	})
}

func TestSecretsStopWaiting(t *testing.T) {
	keys := credentials.New()
	keys.Expect(taskARN, credentials.Execution, "exec")
	r := New(Config{Keys: keys, Parameters: &cloud{}, Secrets: &cloud{}, Objects: &cloud{}})
	stopped := errors.New("the task was stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	d := definition(task.Container{Fetched: task.Fetched{Secrets: []task.Secret{ssm("A", "a"), asm("B", dbARN)}, EnvironmentFiles: []string{"arn:aws:s3:::b/k"}}})
	if _, err := r.Provision(ctx, Task{Definition: d}); !errors.Is(err, stopped) {
		t.Errorf("ended with %v", err)
	}
}

// What a task does not want is not asked for, and costs nothing.
func TestNothingWanted(t *testing.T) {
	c := &cloud{}
	r, _ := conduct(t, c)
	got, err := provision(t, r, definition(task.Container{}))
	if got != nil || err != nil || len(c.asked) != 0 {
		t.Errorf("%v, %v, %v", got, err, c.asked)
	}
	if auth, err := r.Auth(t.Context(), definition(task.Container{}), &task.Container{Image: "web:1"}); auth != nil || err != nil {
		t.Errorf("%v, %v", auth, err)
	}
	d := definition(task.Container{})
	if allocated := testing.AllocsPerRun(100, func() { _, _ = r.Provision(t.Context(), Task{Definition: d}) }); allocated > 1 {
		t.Errorf("a task without resources allocates %v times", allocated)
	}
}

// An outfit prints without its values.
func TestOutfitsDoNotTell(t *testing.T) {
	c := &cloud{parameters: map[string]string{"eu-west-1 p": "hunter2"}, objects: map[string]string{"b/k": "A=hunter2"}}
	r, _ := conduct(t, c)
	d := withSecrets(ssm("P", "p"))
	d.Containers[0].EnvironmentFiles = []string{"arn:aws:s3:::b/k"}
	got, err := provision(t, r, d)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if text := fmt.Sprintf(verb, got); strings.Contains(text, "hunter2") {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}
