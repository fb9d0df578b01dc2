package resources

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
)

// A private registry's login is read once for a task, whoever asks first, and
// forgotten with the task.
func TestRegistryLogins(t *testing.T) {
	c := &cloud{secrets: map[SecretVersion]string{{Region: "eu-west-1", ID: dbARN}: `{"username":"u","password":"p"}`}}
	r, _ := conduct(t, c)
	d := definition(task.Container{Image: "registry.example/web:1", Fetched: task.Fetched{Registry: &task.Registry{ASM: &task.RegistryASM{CredentialsParameter: dbARN}}}})
	for range 2 {
		auth, err := r.Auth(t.Context(), d, &d.Containers[0])
		if err != nil || auth == nil || *auth != (container.Auth{Username: "u", Password: "p"}) {
			t.Fatalf("%v, %v", auth, err)
		}
		if _, err := provision(t, r, d); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.asked) != 1 {
		t.Errorf("asked %v", c.asked)
	}
	if err := r.Release(t.Context(), d); err != nil {
		t.Error(err)
	}
	if err := r.Remove(t.Context(), d); err != nil {
		t.Error(err)
	}
	if len(r.logins.kept) != 0 {
		t.Error("the login outlives its task")
	}
}

func ecrTask(role string) *task.Definition {
	d := definition(task.Container{Image: "111122223333.dkr.ecr.eu-west-1.amazonaws.com/web:1", Fetched: task.Fetched{Registry: &task.Registry{ECR: &task.RegistryECR{
		RegistryID: "111122223333", Region: "eu-west-1", ExecutionRole: role != "",
	}}}})
	d.ExecutionRoleID = role
	return d
}

func password(t *testing.T, r *Resources, d *task.Definition) string {
	t.Helper()
	auth, err := r.Auth(t.Context(), d, &d.Containers[0])
	if err != nil {
		t.Fatal(err)
	}
	return auth.Password
}

// A token is kept for who it was made for, and asked for again 30 to 60 minutes
// before its end.
func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cloud{tokenLife: 6 * time.Hour}
		r, keys := conduct(t, c)
		keys.Put(credentials.Set{ID: "exec2", RoleARN: roleARN, AccessKeyID: "ASIA2"})
		if first, again := password(t, r, ecrTask("exec")), password(t, r, ecrTask("exec")); first != "token1" || again != "token1" {
			t.Errorf("got %s, then %s", first, again)
		}
		if other, host := password(t, r, ecrTask("exec2")), password(t, r, ecrTask("")); other != "token2" || host != "token3" {
			t.Errorf("got %s for another role, %s for the host", other, host)
		}
		far := ecrTask("exec")
		far.Containers[0].Registry.ECR.Region = "us-east-1"
		elsewhere := ecrTask("exec")
		elsewhere.Containers[0].Registry.ECR.EndpointOverride = "ecr.example"
		if a, b := password(t, r, far), password(t, r, elsewhere); a != "token4" || b != "token5" {
			t.Errorf("got %s in another region, %s at another endpoint", a, b)
		}
		time.Sleep(5*time.Hour - time.Second)
		if got := password(t, r, ecrTask("exec")); got != "token1" {
			t.Errorf("%s an hour before the end", got)
		}
		time.Sleep(30*time.Minute + 2*time.Second)
		if got := password(t, r, ecrTask("exec")); got != "token6" {
			t.Errorf("%s half an hour before the end", got)
		}
		if got, want := c.asked[2], "host eu-west-1 111122223333 "; got != want {
			t.Errorf("asked %q, want %q", got, want)
		}
		if err := r.Remove(t.Context(), ecrTask("exec")); err != nil {
			t.Error(err)
		}
		if got := password(t, r, ecrTask("exec")); got != "token7" {
			t.Errorf("%s after the clean-up", got)
		}
	})
}

// However long a token is good, it is kept for twelve hours, and of a hundred the
// one that was not used for longest goes first.
func TestTokensKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cloud{tokenLife: 100 * time.Hour}
		r, _ := conduct(t, c)
		account := func(n int) *task.Definition {
			d := ecrTask("")
			d.Containers[0].Registry.ECR.RegistryID = fmt.Sprint(n)
			return d
		}
		for n := range tokensKept {
			password(t, r, account(n))
			time.Sleep(time.Second)
		}
		password(t, r, account(0))
		password(t, r, account(tokensKept))
		if len(r.tokens.kept) != tokensKept {
			t.Errorf("%d tokens are kept", len(r.tokens.kept))
		}
		if got := password(t, r, account(0)); got != "token1" {
			t.Errorf("the one just used was dropped: %s", got)
		}
		if got := password(t, r, account(1)); got != "token102" {
			t.Errorf("the one not used for longest was kept: %s", got)
		}
		time.Sleep(tokenLife)
		if got := password(t, r, account(0)); got != "token103" {
			t.Errorf("%s after twelve hours", got)
		}
	})
}

// Forty tasks that begin at once ask once.
func TestTokensAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cloud{tokenLife: 6 * time.Hour, hold: make(chan struct{})}
		r, _ := conduct(t, c)
		var wait sync.WaitGroup
		for range 40 {
			wait.Go(func() {
				d := ecrTask("")
				if auth, err := r.Auth(t.Context(), d, &d.Containers[0]); err != nil || auth.Password != "token1" {
					t.Errorf("%v, %v", auth, err)
				}
			})
		}
		synctest.Wait()
		close(c.hold)
		wait.Wait()
		if c.tokens != 1 {
			t.Errorf("%d tokens were asked for", c.tokens)
		}
	})
}

// An image that no task asks for is pulled with the host's own logins.
func TestHostAuth(t *testing.T) {
	c := &cloud{}
	r := New(Config{
		Tokens: c, Keys: credentials.New(), Region: "eu-west-1",
		AuthType: "docker", AuthData: `{"configured.example":{"username":"host","password":"p"}}`,
	})
	for image, want := range map[string]string{
		"configured.example/web:1":     "p",
		"public.ecr.aws/nginx/nginx:1": "",
		"busybox":                      "",
		"111122223333.dkr.ecr.eu-north-1.amazonaws.com/web:1":        "token",
		"111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn/a/b@sha:1": "token",
	} {
		auth, err := r.HostAuth(t.Context(), image)
		got := ""
		if auth != nil {
			got = auth.Password
		}
		if err != nil || !strings.HasPrefix(got, want) || (got == "") != (want == "") {
			t.Errorf("%s is pulled with %q, %v; want %q", image, got, err, want)
		}
	}
	want := []string{"host cn-north-1 111122223333 ", "host eu-north-1 111122223333 "}
	if got := slices.Sorted(slices.Values(c.asked)); !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
}
