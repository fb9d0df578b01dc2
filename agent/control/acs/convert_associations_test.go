package acs

import (
	"errors"
	"slices"
	"testing"

	"github.com/berthd/berth/agent/task"
	wire "github.com/berthd/berth/agent/wire/acs"
)

func TestAssociations(t *testing.T) {
	const arn = "arn:aws:ecs:eu-west-1:111122223333:task/c/0123456789abcdef0123456789abcdef"
	gpu := func(id string, containers ...string) wire.Association {
		return wire.Association{Type: "gpu", Name: id, Containers: containers}
	}
	for _, c := range []struct {
		name         string
		off          bool
		associations []wire.Association
		env          map[string]string
		web          []string // GPUs
		reason       string
		unsupported  bool
	}{
		{name: "none"},
		{name: "two for one", associations: []wire.Association{gpu("GPU-b", "web"), gpu("GPU-a", "web"), gpu("GPU-c", "side")}, web: []string{"GPU-b", "GPU-a"}},
		{
			name: "several containers", associations: []wire.Association{gpu("GPU-a", "web", "side")},
			reason: "resource cannot be initialized for task " + arn + ": could not associate multiple containers to GPU GPU-a",
		},
		{
			name: "no such container", associations: []wire.Association{gpu("GPU-a", "db")},
			reason: "resource cannot be initialized for task " + arn + ": could not find container with name db for associating GPU GPU-a",
		},
		{name: "support is off", off: true, associations: []wire.Association{gpu("GPU-a", "web")}, unsupported: true},
		{name: "another type", associations: []wire.Association{{Type: "fpga", Name: "f"}}, unsupported: true},
		{name: "elastic inference", associations: []wire.Association{{Type: "elastic-inference", Name: "e", Content: &wire.AssociationContent{Value: "{}"}, Containers: []string{"web"}}}},
		{name: "asked for by the variable", env: map[string]string{"NVIDIA_VISIBLE_DEVICES": "0, 1"}, web: []string{"0", "1"}},
		{name: "all by the variable", env: map[string]string{"NVIDIA_VISIBLE_DEVICES": "all"}, web: []string{"all"}},
		{name: "none by the variable", env: map[string]string{"NVIDIA_VISIBLE_DEVICES": "none"}},
		{name: "the association counts", env: map[string]string{"NVIDIA_VISIBLE_DEVICES": "all"}, associations: []wire.Association{gpu("GPU-a", "web")}, web: []string{"GPU-a"}},
		{name: "a variable like any other", off: true, env: map[string]string{"NVIDIA_VISIBLE_DEVICES": "all"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &wire.Task{
				ARN: arn, Family: "f", Version: "1", DesiredStatus: wire.DesiredRunning, Associations: c.associations,
				Containers: []*wire.Container{
					{Name: "web", Image: "i", Essential: true, Environment: c.env}, {Name: "side", Image: "i"},
				},
			}
			d, err := Conversion{GPUs: !c.off}.Convert(w, "tasks[0]")
			if c.unsupported {
				if !isUnsupported(err) {
					t.Errorf("error %v", err)
				}
				return
			}
			if refused, ok := errors.AsType[*SetUpError](err); c.reason != "" {
				if !ok || refused.Reason != c.reason {
					t.Errorf("error %v, want the reason %q", err, c.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := d.Containers[0].Spec.GPUs; !slices.Equal(got, c.web) {
				t.Errorf("web has the GPUs %q, want %q", got, c.web)
			}
			if len(d.Associations) != len(c.associations) {
				t.Errorf("associations %+v", d.Associations)
			}
			if len(c.associations) > 0 && c.associations[0].Type == task.AssociationInference && d.Associations[0].Content != "{}" {
				t.Errorf("content %q", d.Associations[0].Content)
			}
		})
	}
}
