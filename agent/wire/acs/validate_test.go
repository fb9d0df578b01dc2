package acs_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/wire/acs"
)

// TestValidateMessages decodes a message and says what is wrong with it.
func TestValidateMessages(t *testing.T) {
	const (
		ids  = `"messageId":"m","clusterArn":"arn:aws:ecs:r:1:cluster/c","containerInstanceArn":"arn:aws:ecs:r:1:container-instance/i"`
		eni  = `"elasticNetworkInterfaces":[{"ec2Id":"eni-1","macAddress":"0a","ipv6Addresses":[{"address":"::1"}],"subnetGatewayIpv6Address":"fe80::1/64"}]`
		arn  = `"attachmentArn":"arn:aws:ecs:r:1:attachment/a"`
		disk = `{"name":"volumeId","value":"v"},{"name":"volumeSizeGib","value":"1"},{"name":"deviceName","value":"d"},{"name":"sourceVolumeHostPath","value":"p"},{"name":"volumeName","value":"n"}`
	)
	attachment := func(typ, properties string) string {
		return `"attachment":{` + arn + `,"attachmentType":"` + typ + `","attachmentProperties":[` + properties + `]}`
	}
	for _, tc := range []struct{ typ, message, want string }{
		{"PayloadMessage", ids, ""},
		{"PayloadMessage", strings.Replace(ids, `"m"`, `""`, 1), "messageId: is missing"},
		{"PayloadMessage", `"messageId":"m"`, "clusterArn: is missing"},
		{"PayloadMessage", `"messageId":"m","clusterArn":"c"`, "containerInstanceArn: is missing"},
		{"TaskManifestMessage", ``, "messageId: is missing"},

		{"IAMRoleCredentialsMessage", ``, "messageId: is missing"},
		{"IAMRoleCredentialsMessage", `"messageId":"m"`, "taskArn: is missing"},
		{"IAMRoleCredentialsMessage", `"messageId":"m","taskArn":"t","roleType":"King"`, `roleType: "King" is neither TaskApplication nor TaskExecution`},
		{"IAMRoleCredentialsMessage", `"messageId":"m","taskArn":"t","roleType":"TaskExecution"`, "roleCredentials: is missing"},
		{"IAMRoleCredentialsMessage", `"messageId":"m","taskArn":"t","roleType":"TaskExecution","roleCredentials":{}`, "roleCredentials.credentialsId: is missing"},
		{"IAMRoleCredentialsMessage", `"messageId":"m","taskArn":"t","roleType":"TaskApplication","roleCredentials":{"credentialsId":"c"}`, ""},

		{"AttachTaskNetworkInterfacesMessage", ids + `,"taskArn":"t","waitTimeoutMs":1,` + eni, ""},
		{"AttachTaskNetworkInterfacesMessage", ids + `,"waitTimeoutMs":1,` + eni, "taskArn: is missing"},
		{"AttachInstanceNetworkInterfacesMessage", ids + `,"waitTimeoutMs":1,` + eni, ""},
		{"AttachInstanceNetworkInterfacesMessage", ids + `,` + eni, "waitTimeoutMs: 0 is not positive"},
		{"AttachInstanceNetworkInterfacesMessage", ids + `,"waitTimeoutMs":1`, "elasticNetworkInterfaces: is missing"},
		{"AttachInstanceNetworkInterfacesMessage", ids + `,"waitTimeoutMs":1,` + strings.Replace(eni, "0a", "", 1), "elasticNetworkInterfaces[0].macAddress: is missing"},

		{"ConfirmAttachmentMessage", ids, "attachment: is missing"},
		{"ConfirmAttachmentMessage", `"messageId":"m","clusterArn":"c","containerInstanceArn":"i","attachment":{}`, `clusterArn: "c" is not an ARN`},
		{"ConfirmAttachmentMessage", ids + `,"attachment":{"attachmentArn":"a"}`, `attachment.attachmentArn: "a" is not an ARN`},
		{"ConfirmAttachmentMessage", ids + `,` + attachment("amazonebs", disk), ""},
		{"ConfirmAttachmentMessage", ids + `,` + attachment("amazonebs", `{"name":"volumeId","value":"v"}`), "attachment.attachmentProperties.volumeSizeGib: is missing"},
		{"ConfirmAttachmentMessage", ids + `,` + attachment("amazonebs", disk+`,{"name":"fileSystem","value":"fat"}`), `attachment.attachmentProperties.fileSystem: "fat" is not a file system`},
		{"ConfirmAttachmentMessage", ids + `,` + attachment("amazonebs", disk+`,{"name":"x"}`), "attachment.attachmentProperties[5]: has an empty name or value"},
		{"ConfirmAttachmentMessage", ids + `,` + attachment("serviceconnectdetail", ``), "attachment.attachmentProperties.ContainerName: is missing"},
		{"ConfirmAttachmentMessage", ids + `,` + attachment("s3files", `{"name":"volumeId","value":"v"},{"name":"volumeName","value":"n"}`), ""},
		{"ConfirmAttachmentMessage", ids + `,` + attachment("", ``), `attachment.attachmentProperties.resourceType: "" is not a type of resource`},
		{
			"ConfirmAttachmentMessage", ids + `,` + attachment("", `{"name":"resourceType","value":"ElasticBlockStorage"},{"name":"volumeID","value":"v"},{"name":"deviceName","value":"d"}`),
			"",
		},
		{
			"ConfirmAttachmentMessage", ids + `,` + attachment("", `{"name":"resourceType","value":"EphemeralStorage"},{"name":"volumeID","value":"v"},{"name":"deviceName","value":"d"}`),
			"attachment.attachmentProperties.resourceID: is missing",
		},
	} {
		m, err := acs.Decode([]byte(`{"type":"` + tc.typ + `","message":{` + tc.message + `}}`))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := m.(interface{ Validate() error }).Validate(); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%s{%s}\n got %s\nwant %s", tc.typ, tc.message, got, tc.want)
		}
	}
}

// TestTexts: what the service's side writes is what the agent's side reads.
func TestTexts(t *testing.T) {
	config := acs.ContainerConfig{User: "1", Healthcheck: &acs.HealthConfig{Test: acs.StrSlice{"CMD", "x"}, Interval: 5}}
	host := acs.HostConfig{CapAdd: acs.StrSlice{"A"}, LogConfig: acs.LogConfig{Type: "none"}}
	text1, err1 := config.Text()
	text2, err2 := host.Text()
	text3, err3 := acs.Overrides{Command: []string{"sh"}}.Text()
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	var config2 acs.ContainerConfig
	var host2 acs.HostConfig
	if err := config2.Merge(text1); err != nil || cmp.Diff(config, config2) != "" {
		t.Errorf("%s is read as %+v, %v", text1, config2, err)
	}
	if err := host2.Merge(text2); err != nil || cmp.Diff(host, host2) != "" {
		t.Errorf("%s is read as %+v, %v", text2, host2, err)
	}
	if o, err := acs.ParseOverrides(text3); err != nil || len(o.Command) != 1 {
		t.Errorf("%s is read as %+v, %v", text3, o, err)
	}
	for _, bad := range []acs.JSONText{"7", `{"command":"sh"}`, `{"command":[1]}`, `{`} {
		if _, err := acs.ParseOverrides(bad); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}
