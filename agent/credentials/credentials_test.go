package credentials_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/berthd/berth/agent/credentials"
)

func set(id, task string, role credentials.Role) credentials.Set {
	return credentials.Set{ID: id, TaskARN: task, Role: role, AccessKeyID: "AKIA" + id, SecretAccessKey: "hush", SessionToken: "hush"}
}

func TestLifeOfAnID(t *testing.T) {
	s := credentials.New()
	want := func(id string, state credentials.State) {
		t.Helper()
		got, st := s.Get(id)
		if st != state || (st == credentials.Here) != (got.AccessKeyID != "") {
			t.Errorf("%s is %s with %q, want %s", id, st, got.AccessKeyID, state)
		}
	}
	want("a", credentials.Unknown)
	s.Expect("task", credentials.Application, "a")
	s.Expect("task", credentials.Application, "")
	want("a", credentials.Expected)
	want("", credentials.Unknown)

	arrived := s.Arrived()
	select {
	case <-arrived:
		t.Fatal("something arrived before it was put")
	default:
	}
	s.Put(set("a", "task", credentials.Application))
	<-arrived
	want("a", credentials.Here)
	s.Expect("task", credentials.Application, "a")
	want("a", credentials.Here)

	refreshed := set("a", "task", credentials.Application)
	refreshed.AccessKeyID = "AKIAnew"
	s.Put(refreshed)
	if got, _ := s.Get("a"); got.AccessKeyID != "AKIAnew" || s.Len() != 1 {
		t.Errorf("after a refresh: %s, %d ids", got.AccessKeyID, s.Len())
	}

	s.Put(set("e", "task", credentials.Execution))
	s.Put(set("x", "other", credentials.Application))
	s.Remove("task", credentials.Application)
	want("a", credentials.Unknown)
	want("e", credentials.Here)
	if !s.Knows("task") {
		t.Error("a task with an execution role is not known")
	}
	s.RemoveTask("task")
	want("e", credentials.Unknown)
	want("x", credentials.Here)
	if s.Knows("task") || !s.Knows("other") {
		t.Error("the wrong task was removed")
	}
}

func TestNothingPrints(t *testing.T) {
	one := set("a", "task", credentials.Application)
	j, err := json.Marshal(map[string]any{"set": one, "p": &one})
	if err != nil {
		t.Fatal(err)
	}
	out := string(j)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		out += fmt.Sprintf(verb, one) + fmt.Sprintf(verb, &one)
	}
	if strings.Contains(out, "hush") || strings.Contains(out, "AKIA") || strings.Contains(out, "68757368") {
		t.Errorf("keys were printed: %s", out)
	}
}
