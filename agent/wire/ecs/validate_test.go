package ecs_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/berthd/berth/agent/wire/ecs"
)

// TestRegisterTaskDefinitionValidate changes one thing of a good definition at a
// time and demands that the member at fault is named.
func TestRegisterTaskDefinitionValidate(t *testing.T) {
	type request = ecs.RegisterTaskDefinitionRequest
	good := func() *request {
		return &request{
			Family: "shop-web", CPU: "512", Memory: "1 GB",
			Volumes: []ecs.Volume{{Name: "scratch"}},
			ContainerDefinitions: []ecs.ContainerDefinition{
				{
					Name: "init", Image: "busybox", Essential: new(false),
					HealthCheck: &ecs.HealthCheck{Command: []string{"CMD", "true"}, Interval: new(5)},
				},
				{
					Name: "web", Image: "nginx:1", CPU: 256, Memory: 512, MemoryReservation: 256, StopTimeout: new(30),
					PortMappings: []ecs.PortMapping{{ContainerPort: 80, HostPort: 8080}, {ContainerPortRange: "9000-9010", Protocol: "udp"}},
					DependsOn:    []ecs.ContainerDependency{{ContainerName: "init", Condition: ecs.ConditionSuccess}},
					MountPoints:  []ecs.MountPoint{{SourceVolume: "scratch", ContainerPath: "/scratch"}},
					VolumesFrom:  []ecs.VolumeFrom{{SourceContainer: "init"}},
					Ulimits:      []ecs.Ulimit{{Name: "nofile", SoftLimit: 1024, HardLimit: -1}},
					Links:        []string{"init:first"},
				},
			},
		}
	}
	if err := good().Validate(); err != nil {
		t.Fatalf("a good definition: %v", err)
	}
	const web = "containerDefinitions[1]"
	for field, change := range map[string]func(*request, *ecs.ContainerDefinition){
		"family":                   func(r *request, _ *ecs.ContainerDefinition) { r.Family = "a/b" },
		"networkMode":              func(r *request, _ *ecs.ContainerDefinition) { r.NetworkMode = "overlay" },
		"pidMode":                  func(r *request, _ *ecs.ContainerDefinition) { r.PIDMode = "shared" },
		"ipcMode":                  func(r *request, _ *ecs.ContainerDefinition) { r.IPCMode = "shared" },
		"cpu":                      func(r *request, _ *ecs.ContainerDefinition) { r.CPU = "128" },
		"memory":                   func(r *request, _ *ecs.ContainerDefinition) { r.Memory = "lots" },
		"volumes[0].name":          func(r *request, _ *ecs.ContainerDefinition) { r.Volumes[0].Name = "" },
		"volumes[1].name":          func(r *request, _ *ecs.ContainerDefinition) { r.Volumes = append(r.Volumes, r.Volumes[0]) },
		"containerDefinitions":     func(_ *request, c *ecs.ContainerDefinition) { c.Essential = new(false) },
		web + ".name":              func(_ *request, c *ecs.ContainerDefinition) { c.Name = "init" },
		web + ".image":             func(_ *request, c *ecs.ContainerDefinition) { c.Image = "" },
		web + ".cpu":               func(_ *request, c *ecs.ContainerDefinition) { c.CPU = -1 },
		web + ".memory":            func(_ *request, c *ecs.ContainerDefinition) { c.Memory = 2048 },
		web + ".memoryReservation": func(_ *request, c *ecs.ContainerDefinition) { c.MemoryReservation = 600 },
		web + ".portMappings[0].hostPort": func(r *request, c *ecs.ContainerDefinition) {
			r.NetworkMode, c.Links = ecs.NetworkHost, nil
		},
		web + ".portMappings[0]":                    func(r *request, _ *ecs.ContainerDefinition) { r.NetworkMode = ecs.NetworkNone },
		web + ".portMappings[0].containerPort":      func(_ *request, c *ecs.ContainerDefinition) { c.PortMappings[0].ContainerPort = 70000 },
		web + ".portMappings[1].containerPortRange": func(_ *request, c *ecs.ContainerDefinition) { c.PortMappings[1].ContainerPortRange = "9-8" },
		web + ".portMappings[1].protocol":           func(_ *request, c *ecs.ContainerDefinition) { c.PortMappings[1].Protocol = "sctp" },
		web + ".links": func(r *request, c *ecs.ContainerDefinition) {
			r.NetworkMode, c.PortMappings = ecs.NetworkAWSVPC, nil
		},
		web + ".dependsOn[0].containerName":     func(_ *request, c *ecs.ContainerDefinition) { c.DependsOn[0].ContainerName = "db" },
		web + ".dependsOn[0].condition":         func(r *request, _ *ecs.ContainerDefinition) { r.ContainerDefinitions[0].Essential = nil },
		web + ".mountPoints[0].sourceVolume":    func(_ *request, c *ecs.ContainerDefinition) { c.MountPoints[0].SourceVolume = "data" },
		web + ".volumesFrom[0].sourceContainer": func(_ *request, c *ecs.ContainerDefinition) { c.VolumesFrom[0].SourceContainer = "web" },
		web + ".ulimits[0].name":                func(_ *request, c *ecs.ContainerDefinition) { c.Ulimits[0].Name = "files" },
		web + ".ulimits[0].softLimit":           func(_ *request, c *ecs.ContainerDefinition) { c.Ulimits[0].HardLimit = 5 },
		web + ".stopTimeout":                    func(_ *request, c *ecs.ContainerDefinition) { c.StopTimeout = new(-1) },
		web + ".logConfiguration.logDriver":     func(_ *request, c *ecs.ContainerDefinition) { c.LogConfiguration = &ecs.LogConfiguration{} },
		web + ".secrets[0].valueFrom":           func(_ *request, c *ecs.ContainerDefinition) { c.Secrets = []ecs.Secret{{Name: "a"}} },
		"containerDefinitions[0].healthCheck.interval": func(r *request, _ *ecs.ContainerDefinition) {
			r.ContainerDefinitions[0].HealthCheck.Interval = new(1)
		},
	} {
		t.Run(field, func(t *testing.T) {
			r := good()
			change(r, &r.ContainerDefinitions[1])
			var fault *ecs.FieldError
			if err := r.Validate(); !errors.As(err, &fault) || fault.Field != field {
				t.Errorf("got %v, want a fault of %s", err, field)
			}
		})
	}
}

func TestDependencyCycle(t *testing.T) {
	dep := func(on string) []ecs.ContainerDependency {
		return []ecs.ContainerDependency{{ContainerName: on, Condition: ecs.ConditionStart}}
	}
	r := &ecs.RegisterTaskDefinitionRequest{Family: "f", Memory: "64", ContainerDefinitions: []ecs.ContainerDefinition{
		{Name: "a", Image: "i", DependsOn: dep("b")},
		{Name: "b", Image: "i", DependsOn: dep("c")},
		{Name: "c", Image: "i", DependsOn: dep("a")},
	}}
	if err := r.Validate(); err == nil || !strings.Contains(err.Error(), "depends on itself") {
		t.Errorf("got %v, want a cycle", err)
	}
	r.ContainerDefinitions[2].DependsOn = nil
	if err := r.Validate(); err != nil {
		t.Errorf("a chain is no cycle: %v", err)
	}
}

func TestParseSizes(t *testing.T) {
	for in, want := range map[string]int{"": 0, "256": 256, ".5 vCPU": 512, "2vcpu": 2048, "0.25 VCPU": 256} {
		if got, err := ecs.ParseCPU(in); err != nil || got != want {
			t.Errorf("ParseCPU(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
	for in, want := range map[string]int{"": 0, "512": 512, "0.5GB": 512, "8 gb": 8192} {
		if got, err := ecs.ParseMemory(in); err != nil || got != want {
			t.Errorf("ParseMemory(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"x", "-1", "0", "NaN gb", "1e99 gb", "vcpu", "99999999999"} {
		if got, err := ecs.ParseMemory(in); err == nil {
			t.Errorf("ParseMemory(%q) = %d, want an error", in, got)
		}
	}
}

func TestSubmitValidate(t *testing.T) {
	good := func() *ecs.SubmitTaskStateChangeRequest {
		return &ecs.SubmitTaskStateChangeRequest{Task: "t", Status: "RUNNING", Containers: []ecs.ContainerStateChange{{ContainerName: "c", Status: "RUNNING"}}}
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*ecs.SubmitTaskStateChangeRequest){
		"task":                        func(r *ecs.SubmitTaskStateChangeRequest) { r.Task = "" },
		"status":                      func(r *ecs.SubmitTaskStateChangeRequest) { r.Status = "CREATED" },
		"reason":                      func(r *ecs.SubmitTaskStateChangeRequest) { r.Reason = strings.Repeat("x", 1025) },
		"containers[0].containerName": func(r *ecs.SubmitTaskStateChangeRequest) { r.Containers[0].ContainerName = "" },
		"containers[0].status":        func(r *ecs.SubmitTaskStateChangeRequest) { r.Containers[0].Status = "" },
		"containers[0].runtimeId":     func(r *ecs.SubmitTaskStateChangeRequest) { r.Containers[0].RuntimeID = strings.Repeat("x", 256) },
		"attachments[0].attachmentArn": func(r *ecs.SubmitTaskStateChangeRequest) {
			r.Attachments = []ecs.AttachmentStateChange{{Status: "ATTACHED"}}
		},
	} {
		r := good()
		change(r)
		var fault *ecs.FieldError
		if err := r.Validate(); !errors.As(err, &fault) || fault.Field != field {
			t.Errorf("got %v, want a fault of %s", err, field)
		}
	}
}

func TestOtherValidate(t *testing.T) {
	type validator interface{ Validate() error }
	resources := []ecs.Resource{{Name: "CPU", Type: "INTEGER"}}
	for field, message := range map[string]validator{
		"":                       &ecs.RegisterContainerInstanceRequest{TotalResources: resources, Attributes: []ecs.Attribute{{Name: "a"}}, PlatformDevices: []ecs.PlatformDevice{{ID: "g", Type: "GPU"}}},
		"totalResources[0].type": &ecs.RegisterContainerInstanceRequest{TotalResources: []ecs.Resource{{Name: "CPU", Type: "INT"}}},
		"attributes[0].name":     &ecs.RegisterContainerInstanceRequest{TotalResources: resources, Attributes: []ecs.Attribute{{Value: "v"}}},
		"platformDevices[0].id":  &ecs.RegisterContainerInstanceRequest{PlatformDevices: []ecs.PlatformDevice{{Type: "GPU"}}},
		"attachments":            &ecs.SubmitAttachmentStateChangesRequest{},
		"attachments[0].status":  &ecs.SubmitAttachmentStateChangesRequest{Attachments: []ecs.AttachmentStateChange{{AttachmentARN: "a"}}},
		"volumes[0]":             withVolume(ecs.Volume{Name: "v", Host: &ecs.HostVolumeProperties{}, EFSVolumeConfiguration: &ecs.EFSVolumeConfiguration{}}),
		"volumes[0].dockerVolumeConfiguration.scope":         withVolume(ecs.Volume{Name: "v", DockerVolumeConfiguration: &ecs.DockerVolumeConfiguration{Scope: "host"}}),
		"volumes[0].dockerVolumeConfiguration.autoprovision": withVolume(ecs.Volume{Name: "v", DockerVolumeConfiguration: &ecs.DockerVolumeConfiguration{Autoprovision: true}}),
		"volumes[0].efsVolumeConfiguration.fileSystemId":     withVolume(ecs.Volume{Name: "v", EFSVolumeConfiguration: &ecs.EFSVolumeConfiguration{}}),
	} {
		err := message.Validate()
		fault, ok := errors.AsType[*ecs.FieldError](err)
		if (field == "" && err != nil) || (field != "" && (!ok || fault.Field != field)) {
			t.Errorf("got %v, want a fault of %q", err, field)
		}
	}
}

func withVolume(v ecs.Volume) *ecs.RegisterTaskDefinitionRequest {
	return &ecs.RegisterTaskDefinitionRequest{
		Family: "f", Volumes: []ecs.Volume{v}, ContainerDefinitions: []ecs.ContainerDefinition{{Name: "a", Image: "i", Memory: 8}},
	}
}
