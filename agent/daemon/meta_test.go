package daemon

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/control/ecsapi"
	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/wire/ecs"
)

// TestMetadataAddress: the host's agent has its place, one beside it a free port
// of its own, and each is told to containers as what it is.
func TestMetadataAddress(t *testing.T) {
	own, err := openMetadataAddress(&config.Config{Metadata: config.Metadata{Listen: config.DefaultTaskMetadataAddress}})
	if err != nil || own.beside() || own.forHostMode() != "" || own.address.String() != config.DefaultTaskMetadataAddress {
		t.Errorf("the host's: %+v, %v", own, err)
	}
	free := &config.Config{Metadata: config.Metadata{Listen: "127.0.0.1:0"}}
	one, err := openMetadataAddress(free)
	if err != nil {
		t.Fatal(err)
	}
	two, err := openMetadataAddress(free)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []metadataAddress{one, two} {
		if !m.beside() || m.address.Port() == 0 || m.forHostMode() != m.address.String() {
			t.Errorf("beside it: %+v", m)
		}
		for range 2 {
			if err := m.close(); err != nil {
				t.Error(err)
			}
		}
	}
	if one.address == two.address {
		t.Error("two of them have one port")
	}
	if _, err := openMetadataAddress(&config.Config{Metadata: config.Metadata{Listen: "here"}}); err == nil {
		t.Error("an address that is none")
	}
}

// TestProtectionSignature: with the keys of the role, and not with the host's.
func TestProtectionSignature(t *testing.T) {
	var got []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("Authorization")+" "+r.Header.Get("X-Amz-Security-Token"))
		_, _ = w.Write([]byte("{}"))
	}))
	defer s.Close()
	api := ecsapi.New(ecsapi.Config{Endpoint: s.URL})
	defer api.Close()
	p := protection{api, "eu-west-1"}
	keys := credentials.Set{AccessKeyID: "ASIAROLE", SecretAccessKey: "secret", SessionToken: "token"}
	_, err1 := p.GetProtection(t.Context(), keys, &ecs.GetTaskProtectionRequest{})
	_, err2 := p.UpdateProtection(t.Context(), keys, &ecs.UpdateTaskProtectionRequest{})
	if err1 != nil || err2 != nil || len(got) != 2 {
		t.Fatalf("%v, %v, %q", err1, err2, got)
	}
	for _, signature := range got {
		if !strings.Contains(signature, "Credential=ASIAROLE/") || !strings.Contains(signature, "/eu-west-1/ecs/aws4_request") || !strings.HasSuffix(signature, " token") {
			t.Errorf("signed %s", signature)
		}
	}
}
