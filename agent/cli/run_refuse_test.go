package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/wire/ecs"
)

func TestRefuseDefinition(t *testing.T) {
	for _, tt := range []struct {
		name, in, want string
	}{
		{"nothing", `{"runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"}, "containerDefinitions": [{"name": "a"}]}`, ""},
		{"nothing said", `{"runtimePlatform": {}, "volumes": [{"name": "v"}], "containerDefinitions": [{"name": "a"}]}`, ""},
		{
			"Windows", `{"runtimePlatform": {"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}}`,
			"runtimePlatform.operatingSystemFamily: WINDOWS_SERVER_2022_CORE does not run on Linux",
		},
		{"another processor", `{"runtimePlatform": {"cpuArchitecture": "ARM64"}}`, "runtimePlatform.cpuArchitecture: it asks for ARM64, and this host is X86_64"},
		{
			"volumes", `{"volumes": [{}, {"fsxWindowsFileServerVolumeConfiguration": {}}, {"configuredAtLaunch": true}, {"s3filesVolumeConfiguration": {}}]}`,
			"volumes[1].fsxWindowsFileServerVolumeConfiguration: FSx for Windows File Server is for Windows; " +
				"volumes[2].configuredAtLaunch: it is Amazon ECS that makes and attaches an EBS volume for a task; " +
				"volumes[3].s3filesVolumeConfiguration: Berth does not mount S3 Files",
		},
		{
			"a proxy", `{"proxyConfiguration": {}}`,
			"proxyConfiguration: a run has no network interface whose traffic a proxy could take; berth local --awsvpc gives tasks one",
		},
		{
			"accelerators", `{"inferenceAccelerators": [{}], "containerDefinitions": [{"resourceRequirements": [{"type": "InferenceAccelerator"}]}]}`,
			"inferenceAccelerators: Amazon Elastic Inference is no more; containerDefinitions[0].resourceRequirements: Amazon Elastic Inference is no more",
		},
		{
			"Active Directory", `{"containerDefinitions": [{}, {"credentialSpecs": ["c"]}, {"dockerSecurityOptions": ["no-new-privileges", "credentialspec:c"]}]}`,
			"containerDefinitions[1].credentialSpecs: Berth does not fetch credentials of Active Directory (gMSA); " +
				"containerDefinitions[2].dockerSecurityOptions: Berth does not fetch credentials of Active Directory (gMSA)",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var d ecs.RegisterTaskDefinitionRequest
			if err := ecs.Decode([]byte(tt.in), &d); err != nil {
				t.Fatal(err)
			}
			got, want := "", tt.want
			if err := refuseDefinition(&d, "X86_64"); err != nil {
				got = err.Error()
			}
			if want != "" {
				want = "the task definition cannot run here: " + want
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("reasons (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExplained(t *testing.T) {
	for attribute, want := range map[string]string{
		"ecs.capability.docker-plugin.rexray/ebs":               "volumes[].dockerVolumeConfiguration.driver (ecs.capability.docker-plugin.rexray/ebs)",
		"com.amazonaws.ecs.capability.privileged-container":     "containerDefinitions[].privileged (com.amazonaws.ecs.capability.privileged-container)",
		"ecs.capability.fault-injection":                        "enableFaultInjection (ecs.capability.fault-injection)",
		"com.amazonaws.ecs.capability.logging-driver.sumologic": "containerDefinitions[].logConfiguration (com.amazonaws.ecs.capability.logging-driver.sumologic)",
		"com.amazonaws.ecs.capability.docker-remote-api.1.99":   "com.amazonaws.ecs.capability.docker-remote-api.1.99",
		"stack": "stack",
	} {
		if got := explained(attribute); got != want {
			t.Errorf("%s: %s, want %s", attribute, got, want)
		}
	}
	if got := exhausted(ecs.FailureResourceGPU); got != "containerDefinitions[].resourceRequirements, of type GPU (RESOURCE:GPU)" {
		t.Error(got)
	}
}

func TestSignedMembers(t *testing.T) {
	var d ecs.RegisterTaskDefinitionRequest
	if err := ecs.Decode([]byte(`{"containerDefinitions": [
		{"image": "nginx", "logConfiguration": {"logDriver": "splunk", "secretOptions": [{}]}},
		{"image": "123456789012.dkr.ecr.us-west-2.amazonaws.com/app:1", "repositoryCredentials": {}, "secrets": [{}], "environmentFiles": [{}],
		 "logConfiguration": {"logDriver": "awsfirelens", "secretOptions": [{}]}},
		{"image": "fluent-bit", "firelensConfiguration": {"options": {"config-file-type": "s3"}}},
		{"image": "fluent-bit", "firelensConfiguration": {"options": {"config-file-type": "file"}}}]}`), &d); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"containerDefinitions[1].image", "containerDefinitions[1].repositoryCredentials", "containerDefinitions[1].secrets",
		"containerDefinitions[1].environmentFiles", "containerDefinitions[1].logConfiguration.secretOptions",
		"containerDefinitions[2].firelensConfiguration.options",
	}
	if diff := cmp.Diff(want, signedMembers(&d)); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
}
