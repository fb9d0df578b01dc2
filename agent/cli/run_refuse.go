package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berthd/berth/agent/wire/ecs"
)

// refuseDefinition says why a task definition can run on no Linux host of one's own, or not on one with this processor (a word of
// runtimePlatform.cpuArchitecture); nil is that it may. What depends on what the host has is the cluster's to say, when it places the
// task.
func refuseDefinition(d *ecs.RegisterTaskDefinitionRequest, architecture string) error {
	var reasons []string
	because := func(refused bool, member, reason string, args ...any) {
		if refused {
			reasons = append(reasons, member+": "+fmt.Sprintf(reason, args...))
		}
	}
	if p := d.RuntimePlatform; p != nil {
		because(!slices.Contains([]string{"", "LINUX"}, p.OperatingSystemFamily), "runtimePlatform.operatingSystemFamily",
			"%s does not run on Linux", p.OperatingSystemFamily)
		because(!slices.Contains([]string{"", architecture}, p.CPUArchitecture), "runtimePlatform.cpuArchitecture",
			"it asks for %s, and this host is %s", p.CPUArchitecture, architecture)
	}
	because(len(d.InferenceAccelerators) > 0, "inferenceAccelerators", "Amazon Elastic Inference is no more")
	because(d.ProxyConfiguration != nil, "proxyConfiguration",
		"a run has no network interface whose traffic a proxy could take; berth local --awsvpc gives tasks one")
	for i := range d.Volumes {
		v, at := &d.Volumes[i], fmt.Sprintf("volumes[%d].", i)
		because(v.FSxWindowsFileServerVolumeConfiguration != nil, at+"fsxWindowsFileServerVolumeConfiguration",
			"FSx for Windows File Server is for Windows")
		because(v.S3FilesVolumeConfiguration != nil, at+"s3filesVolumeConfiguration", "Berth does not mount S3 Files")
		because(v.ConfiguredAtLaunch, at+"configuredAtLaunch", "it is Amazon ECS that makes and attaches an EBS volume for a task")
	}
	for i := range d.ContainerDefinitions {
		c, at := &d.ContainerDefinitions[i], fmt.Sprintf("containerDefinitions[%d].", i)
		because(len(c.CredentialSpecs) > 0, at+"credentialSpecs", "Berth does not fetch credentials of Active Directory (gMSA)")
		because(slices.ContainsFunc(c.DockerSecurityOptions, func(o string) bool { return strings.HasPrefix(o, "credentialspec") }),
			at+"dockerSecurityOptions", "Berth does not fetch credentials of Active Directory (gMSA)")
		because(slices.ContainsFunc(c.ResourceRequirements, func(r ecs.ResourceRequirement) bool { return r.Type == "InferenceAccelerator" }),
			at+"resourceRequirements", "Amazon Elastic Inference is no more")
	}
	if len(reasons) == 0 {
		return nil
	}
	return errors.New("the task definition cannot run here: " + strings.Join(reasons, "; "))
}

// asked are the members of a task definition that ask for an attribute, by the beginning of its name after capability.; the first that
// fits counts.
func asked() [][2]string {
	return [][2]string{
		{"docker-plugin.", "volumes[].dockerVolumeConfiguration.driver"},
		{"efs", "volumes[].efsVolumeConfiguration"},
		{"storage.", "volumes[]"},
		{"secrets.", "containerDefinitions[].secrets"},
		{"env-files.", "containerDefinitions[].environmentFiles"},
		{"private-registry-authentication", "containerDefinitions[].repositoryCredentials"},
		{"ecr-", "containerDefinitions[].image"},
		{"firelens.", "containerDefinitions[].firelensConfiguration"},
		{"logging-driver.", "containerDefinitions[].logConfiguration"},
		{"container-health-check", "containerDefinitions[].healthCheck"},
		{"container-ordering", "containerDefinitions[].dependsOn, startTimeout or stopTimeout"},
		{"container-restart-policy", "containerDefinitions[].restartPolicy"},
		{"network.container-port-range", "containerDefinitions[].portMappings[].containerPortRange"},
		{"privileged-container", "containerDefinitions[].privileged"},
		{"selinux", "containerDefinitions[].dockerSecurityOptions"},
		{"apparmor", "containerDefinitions[].dockerSecurityOptions"},
		{"task-iam-role", "taskRoleArn"},
		{"pid-ipc-namespace-sharing", "pidMode or ipcMode"},
		{"fault-injection", "enableFaultInjection"},
	}
}

// explained names the member that asks for an attribute.
func explained(attribute string) string {
	_, suffix, _ := strings.Cut(attribute, "capability.")
	for _, a := range asked() {
		if strings.HasPrefix(suffix, a[0]) {
			return a[1] + " (" + attribute + ")"
		}
	}
	return attribute
}

// exhausted names the member that asks for a resource of which the host has too little, in the word of ECS for the failure.
func exhausted(reason string) string {
	switch reason {
	case ecs.FailureResourceCPU:
		return "cpu (" + reason + ")"
	case ecs.FailureResourceMemory:
		return "memory (" + reason + ")"
	case ecs.FailureResourcePorts:
		return "containerDefinitions[].portMappings[].hostPort (" + reason + ")"
	case ecs.FailureResourceGPU:
		return "containerDefinitions[].resourceRequirements, of type GPU (" + reason + ")"
	}
	return reason
}
