package control_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/berthd/berth/agent/awsapi"
	"github.com/berthd/berth/agent/health"
	"github.com/berthd/berth/agent/wire/ecs"
)

// userCall makes a signed call of the API without the agent's client.
func userCall(t *testing.T, url, operation string, in, out any) error {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", ecs.ContentType)
	r.Header.Set(ecs.TargetHeader, ecs.Target+operation)
	keys := awsapi.NewCredentials(awsapi.CredentialsConfig{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "hush"})
	if err := awsapi.NewSigner(keys, "eu-west-1", "ecs").SignRequest(t.Context(), r, body); err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // It is read to its end.
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return ecs.ParseError(response.Header.Get(ecs.ErrorTypeHeader), answer)
	}
	if out == nil {
		return nil
	}
	return ecs.Decode(answer, out)
}

// board is a control.Board that nobody reads.
type board struct{}

// Report forgets.
func (board) Report(string, health.Status, string, time.Time) bool { return false }
