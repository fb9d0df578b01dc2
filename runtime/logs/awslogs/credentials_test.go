package awslogs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"
)

// The keys of an execution role come from the agent's socket, by the id at the end
// of the option.
func TestKeysOfTheExecutionRole(t *testing.T) {
	dir, err := os.MkdirTemp("", "awslogs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	socket := filepath.Join(dir, "sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	const good = `{"RoleArn":"arn","AccessKeyId":"ROLE","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}`
	web := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/credentials/id-1" {
			_, _ = w.Write([]byte(good))
			return
		}
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"code":"InvalidIdInRequest","message":"nobody knows it","HTTPErrorCode":400}`))
	})}
	served := make(chan error)
	go func() { served <- web.Serve(listener) }()
	t.Cleanup(func() {
		if err := web.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	r := newRings(Config{Host: keys("HOST"), AgentSocket: socket})
	role, release := r.of("/v2/credentials/id-1")
	same, releaseSame := r.of("/v2/credentials/id-1")
	if role != same || len(r.roles) != 1 {
		t.Error("two containers of a role do not share its keys")
	}
	got, err := role.Retrieve(t.Context())
	if err != nil || got.AccessKeyID != "ROLE" || got.SessionToken != "t" || !got.CanExpire {
		t.Errorf("%s %v", got.AccessKeyID, err)
	}
	for range 2 {
		release()
	}
	if len(r.roles) != 1 {
		t.Error("keys that are still used were forgotten")
	}
	if releaseSame(); len(r.roles) != 0 {
		t.Error("keys that nobody uses are kept")
	}
	other, release := r.of("/v2/credentials/other")
	defer release()
	if _, err := other.Retrieve(t.Context()); err == nil || !strings.Contains(err.Error(), "status 400: InvalidIdInRequest nobody knows it") {
		t.Error(err)
	}
	host, release := r.of("")
	defer release()
	if got, err := host.Retrieve(t.Context()); err != nil || got.AccessKeyID != "HOST" {
		t.Error(got.AccessKeyID, err)
	}
}

// Keys are renewed in time; while they cannot be, those there are go on until they
// end.
func TestKeysWhileTheAgentIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, away := 0, false
		c := &cached{ask: func(context.Context) (aws.Credentials, error) {
			asked++
			if away {
				return aws.Credentials{}, errors.New("the agent is away")
			}
			return aws.Credentials{
				AccessKeyID: fmt.Sprint(asked), SecretAccessKey: "s", CanExpire: true, Expires: time.Now().Add(time.Hour),
			}, nil
		}}
		for _, step := range []struct {
			after time.Duration
			away  bool
			want  string
			asked int
		}{
			{0, true, "", 1},
			{0, false, "2", 2},
			{50 * time.Minute, false, "2", 2},
			{6 * time.Minute, true, "2", 3},
			{time.Second, true, "2", 3}, // not asked each time
			{2 * time.Minute, true, "2", 4},
			{5 * time.Minute, true, "", 5},
			{time.Second, false, "6", 6},
		} {
			time.Sleep(step.after)
			away = step.away
			got, err := c.Retrieve(t.Context())
			if got.AccessKeyID != step.want || (err != nil) != (step.want == "") || asked != step.asked {
				t.Errorf("after %v: keys %q, %v, asked %d times; want %q, %d", step.after, got.AccessKeyID, err, asked, step.want, step.asked)
			}
		}
		c.Forget()
		if got, err := c.Retrieve(t.Context()); err != nil || got.AccessKeyID != "7" {
			t.Error("keys that were refused are used again")
		}
	})
}

// flaky is a keyring whose keys can be taken away.
type flaky struct {
	keys aws.Credentials
	err  error
}

func (f *flaky) Retrieve(context.Context) (aws.Credentials, error) { return f.keys, f.err }
func (f *flaky) Forget()                                           {}

// Keys outlive the log process in a file in memory, until they end or are refused.
func TestKeptKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), keysName)
		away := &flaky{err: errors.New("nobody has keys")}
		good := &flaky{keys: aws.Credentials{AccessKeyID: "A", SecretAccessKey: "s", SessionToken: "t", CanExpire: true, Expires: time.Now().Add(time.Hour)}}
		next := func(from *flaky) *kept { return &kept{keyring: from, file: file, log: zap.NewNop()} }
		if _, err := next(away).Retrieve(t.Context()); !errors.Is(err, away.err) {
			t.Error(err)
		}
		first := next(good)
		if got, err := first.Retrieve(t.Context()); err != nil || got.AccessKeyID != "A" {
			t.Error(got.AccessKeyID, err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Error(info, err)
		}
		if got, err := next(away).Retrieve(t.Context()); err != nil || got.SecretAccessKey != "s" || got.SessionToken != "t" {
			t.Error(got.AccessKeyID, err)
		}
		time.Sleep(2 * time.Hour)
		if _, err := next(away).Retrieve(t.Context()); !errors.Is(err, away.err) {
			t.Error("keys that have ended are used", err)
		}
		good.keys.AccessKeyID, good.keys.Expires = "B", time.Now().Add(time.Hour)
		if _, err := first.Retrieve(t.Context()); err != nil {
			t.Error(err)
		}
		if got, err := next(away).Retrieve(t.Context()); err != nil || got.AccessKeyID != "B" {
			t.Error("renewed keys are not kept", got.AccessKeyID, err)
		}
		first.Forget()
		if _, err := next(away).Retrieve(t.Context()); !errors.Is(err, away.err) {
			t.Error("keys that were refused are used", err)
		}
	})
}
