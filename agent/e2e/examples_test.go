package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berthd/berth/agent/wire/ecs"
)

// examples is the folder of task definitions in the shapes that the ECS
// documentation shows: one per feature that it has an example of.
const examples = "testdata/examples"

// What becomes of an example under berth run; anything else is the text of its
// refusal.
const runs = ""

// verdicts is what becomes of each example. A refusal names the member of the task
// definition and the reason.
func verdicts() map[string]string {
	return map[string]string{
		"adot-sidecar":                  runs,
		"app-mesh":                      "proxyConfiguration: a run has no network interface",
		"awslogs-multiline":             runs,
		"awslogs-wordpress":             runs,
		"awsvpc-sidecar":                runs,
		"bind-mount-empty":              runs,
		"bind-mount-host":               runs,
		"container-dependency":          runs,
		"container-dependency-init":     runs,
		"container-insights-prometheus": runs,
		"curler":                        runs,
		"datadog-daemon":                runs,
		"disable-networking":            runs,
		"docker-volume-rexray":          "volumes[].dockerVolumeConfiguration.driver (ecs.capability.docker-plugin.rexray/ebs)",
		"docker-volume-shared":          runs,
		"docker-volume-task":            runs,
		"docker-volume-tmpfs":           runs,
		"dynamic-host-port":             runs,
		"ebs":                           "volumes[0].configuredAtLaunch: it is Amazon ECS that makes and attaches an EBS volume",
		"ecr-image":                     runs,
		"ecs-exec":                      runs,
		"efs":                           runs,
		"efs-access-point":              runs,
		"elastic-inference":             "inferenceAccelerators: Amazon Elastic Inference is no more",
		"environment-files":             runs,
		"ephemeral-storage-fargate":     runs,
		"external-instance":             runs,
		"extra-hosts-dns":               runs,
		"firelens-config-file":          runs,
		"firelens-config-s3":            runs,
		"firelens-fargate":              runs,
		"firelens-filter":               runs,
		"firelens-fluentbit-cloudwatch": runs,
		"firelens-fluentbit-firehose":   runs,
		"firelens-fluentbit-s3-output":  runs,
		"firelens-fluentd-firehose":     runs,
		"firelens-opensearch":           runs,
		"firelens-secret-options":       runs,
		"fluentd-driver":                runs,
		"gelf":                          runs,
		"gmsa-domainless":               "containerDefinitions[0].credentialSpecs: Berth does not fetch credentials of Active Directory",
		"gmsa-linux":                    "containerDefinitions[0].credentialSpecs: Berth does not fetch credentials of Active Directory",
		"gpu":                           "containerDefinitions[].resourceRequirements, of type GPU (RESOURCE:GPU)",
		"health-check":                  runs,
		"host-network":                  runs,
		"ipc-host":                      runs,
		"json-file-rotation":            runs,
		"linux-parameters":              runs,
		"network-none":                  runs,
		"neuron":                        "/dev/neuron0",
		"no-new-privileges":             runs,
		"pid-task":                      runs,
		"placement-member-of":           runs,
		"port-range":                    runs,
		"private-registry":              runs,
		"privileged":                    runs,
		"queue-worker-fargate":          runs,
		"read-only-root":                runs,
		"restart-policy":                runs,
		"s3-files":                      "volumes[0].s3filesVolumeConfiguration: Berth does not mount S3 Files",
		"secret-json-key":               runs,
		"secret-parameter-store":        runs,
		"secret-version-id":             runs,
		"secret-version-stage":          runs,
		"secret-whole":                  runs,
		"selinux":                       "containerDefinitions[].dockerSecurityOptions (com.amazonaws.ecs.capability.selinux)",
		"service-connect":               runs,
		"sleep360":                      runs,
		"splunk":                        runs,
		"swap":                          runs,
		"syslog-journald":               runs,
		"system-controls":               runs,
		"ulimits":                       runs,
		"version-consistency":           runs,
		"volumes-from":                  runs,
		"webserver-arm64-fargate":       "runtimePlatform.cpuArchitecture: it asks for ARM64",
		"webserver-awslogs-fargate":     runs,
		"webserver-ec2":                 runs,
		"webserver-fargate":             runs,
		"windows-fsx":                   "volumes[0].fsxWindowsFileServerVolumeConfiguration: FSx for Windows File Server is for Windows",
		"windows-iis-ec2":               "runtimePlatform.operatingSystemFamily: WINDOWS_SERVER_2022_CORE does not run on Linux",
		"windows-iis-fargate":           "runtimePlatform.operatingSystemFamily: WINDOWS_SERVER_2019_CORE does not run on Linux",
		"xray-daemon":                   runs,
	}
}

// TestExamples: each example has a verdict, and is what the API takes.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob(examples + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	expected := verdicts()
	if len(files) < 45 {
		t.Errorf("only %d examples", len(files))
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if _, known := expected[name]; !known {
			t.Errorf("%s has no verdict", name)
		}
		delete(expected, name)
		d, err := readExample(file)
		if err != nil {
			t.Error(err)
			continue
		}
		// Some are refused before they are registered.
		if verdicts()[name] == runs {
			if err := d.Validate(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for name := range expected {
		t.Errorf("there is a verdict for %s, and no example", name)
	}
}

// readExample reads a task definition that has no member unknown to the API.
func readExample(file string) (*ecs.RegisterTaskDefinitionRequest, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	strict := json.NewDecoder(strings.NewReader(string(text)))
	strict.DisallowUnknownFields()
	d := new(ecs.RegisterTaskDefinitionRequest)
	if err := strict.Decode(d); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return d, nil
}

// localised is an example that can be run here, beside others: images of the story
// for those of the documentation, a port of its own for each of the documented,
// paths below a directory, and outputs that the story's log router has.
func localised(d *ecs.RegisterTaskDefinitionRequest, firstPort int, dir string) {
	for i := range d.Volumes {
		if h := d.Volumes[i].Host; h != nil && h.SourcePath != "" && !strings.HasPrefix(h.SourcePath, "/proc") && !strings.HasPrefix(h.SourcePath, "/sys") {
			h.SourcePath = filepath.Join(dir, h.SourcePath)
		}
	}
	for i := range d.ContainerDefinitions {
		c := &d.ContainerDefinitions[i]
		c.Image = "127.0.0.1:4580/box:1"
		if c.FirelensConfiguration != nil {
			c.Image = "127.0.0.1:4580/router:1"
		}
		if l := c.LogConfiguration; l != nil && l.LogDriver == "awsfirelens" {
			for option := range l.Options {
				if option == "Name" || option == "@type" {
					l.Options[option] = "stdout"
				}
			}
		}
		for j := range c.PortMappings {
			p := &c.PortMappings[j]
			firstPort++
			shared := d.NetworkMode == ecs.NetworkHost || d.NetworkMode == ecs.NetworkAWSVPC
			if shared {
				p.ContainerPort = firstPort
			}
			if p.HostPort != 0 {
				p.HostPort = firstPort
			}
		}
	}
}

func TestLocalised(t *testing.T) {
	d, err := readExample(examples + "/datadog-daemon.json")
	if err != nil {
		t.Fatal(err)
	}
	localised(d, 20000, "/work")
	var paths []string
	for _, v := range d.Volumes {
		paths = append(paths, v.Host.SourcePath)
	}
	if want := []string{"/work/var/run/docker.sock", "/proc/", "/sys/fs/cgroup/"}; !slices.Equal(paths, want) {
		t.Errorf("paths %v, want %v", paths, want)
	}
}
