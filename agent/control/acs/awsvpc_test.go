package acs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/control/wstest"
	"github.com/berthd/berth/agent/task"
)

// eni is an interface as ECS describes it, with members over the usual ones.
func eni(t *testing.T, edit string) string {
	t.Helper()
	e := map[string]any{
		"attachmentArn": "arn:aws:ecs:eu-west-1:111122223333:attachment/aa11", "ec2Id": "eni-0abc", "macAddress": "0A:11:22:33:44:55",
		"ipv4Addresses":            []map[string]any{{"privateAddress": "10.0.4.18"}, {"privateAddress": "10.0.4.17", "primary": true}},
		"subnetGatewayIpv4Address": "10.0.4.1/24", "domainNameServers": []string{"10.0.0.2"},
		"domainName": []string{"eu-west-1.compute.internal"}, "privateDnsName": "ip-10-0-4-17.eu-west-1.compute.internal",
	}
	if edit != "" {
		if err := json.Unmarshal([]byte("{"+edit+"}"), &e); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func awsvpcTask(t *testing.T, editENI, more string) string {
	t.Helper()
	if more != "" {
		more = "," + more
	}
	return withTask(`"networkMode":"awsvpc","elasticNetworkInterfaces":[` + eni(t, editENI) + `]` + more)
}

const mesh = `"proxyConfiguration":{"type":"APPMESH","containerName":"c","properties":{"IgnoredUID":"1337","ProxyIngressPort":"15000",` +
	`"ProxyEgressPort":"15001","AppPorts":"80, 443","EgressIgnoredIPs":"10.1.0.0/16","EgressIgnoredPorts":"22"}}`

func TestConvertAWSVPC(t *testing.T) {
	for name, tc := range map[string]struct{ task, want string }{
		"one family": {
			awsvpcTask(t, "", ""),
			`eni {"AttachmentARN":"arn:aws:ecs:eu-west-1:111122223333:attachment/aa11","EC2ID":"eni-0abc","Name":"","MAC":"0a:11:22:33:44:55",` +
				`"IPv4":["10.0.4.17/24","10.0.4.18/24"],"IPv6":null,"GatewayIPv4":"10.0.4.1","GatewayIPv6":"","SubnetIPv4":"10.0.4.1/24","SubnetIPv6":"",` +
				`"NameServers":["10.0.0.2"],"Search":["eu-west-1.compute.internal"],"PrivateDNSName":"ip-10-0-4-17.eu-west-1.compute.internal","VLAN":0,"TrunkMAC":""} proxy null`,
		},
		"both, a branch": {
			awsvpcTask(t, `"ipv6Addresses":[{"address":"2001:db8::17"}],"interfaceAssociationProtocol":"vlan",
				"interfaceVlanProperties":{"vlanId":"7","trunkInterfaceMacAddress":"0a:99:22:33:44:55"},
				"ipv4Addresses":[{"privateAddress":"10.0.4.17"}],"domainName":null,"domainNameServers":null,"privateDnsName":"","attachmentArn":"arn"`, ""),
			`eni {"AttachmentARN":"arn","EC2ID":"eni-0abc","Name":"","MAC":"0a:11:22:33:44:55",` +
				`"IPv4":["10.0.4.17/24"],"IPv6":["2001:db8::17/64"],"GatewayIPv4":"10.0.4.1","GatewayIPv6":"","SubnetIPv4":"10.0.4.1/24","SubnetIPv6":"",` +
				`"NameServers":null,"Search":null,"PrivateDNSName":"","VLAN":7,"TrunkMAC":"0a:99:22:33:44:55"} proxy null`,
		},
		"IPv6 alone": {
			awsvpcTask(t, `"ipv4Addresses":null,"subnetGatewayIpv4Address":"","ipv6Addresses":[{"address":"2001:db8::17"}],"subnetGatewayIpv6Address":"2001:db8::1/80",
				"domainName":null,"domainNameServers":["2001:db8::2"],"privateDnsName":"","attachmentArn":"arn"`, ""),
			`eni {"AttachmentARN":"arn","EC2ID":"eni-0abc","Name":"","MAC":"0a:11:22:33:44:55",` +
				`"IPv4":null,"IPv6":["2001:db8::17/80"],"GatewayIPv4":"","GatewayIPv6":"2001:db8::1","SubnetIPv4":"","SubnetIPv6":"2001:db8::1/80",` +
				`"NameServers":["2001:db8::2"],"Search":null,"PrivateDNSName":"","VLAN":0,"TrunkMAC":""} proxy null`,
		},
		"App Mesh": {
			awsvpcTask(t, `"domainName":null,"domainNameServers":null,"privateDnsName":"","attachmentArn":"arn"`, mesh),
			`eni {"AttachmentARN":"arn","EC2ID":"eni-0abc","Name":"","MAC":"0a:11:22:33:44:55",` +
				`"IPv4":["10.0.4.17/24","10.0.4.18/24"],"IPv6":null,"GatewayIPv4":"10.0.4.1","GatewayIPv6":"","SubnetIPv4":"10.0.4.1/24","SubnetIPv6":"",` +
				`"NameServers":null,"Search":null,"PrivateDNSName":"","VLAN":0,"TrunkMAC":""} ` +
				`proxy {"Container":"c","IgnoredUID":"1337","IgnoredGID":"","IngressPort":15000,"EgressPort":15001,"AppPorts":[80,443],` +
				`"EgressIgnoredIPs":["10.1.0.0/16","169.254.170.2","169.254.169.254","fd00:ec2::254"],"EgressIgnoredPorts":[22]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Conversion{TaskENI: true}.Convert(readTask(t, tc.task), "tasks[0]")
			if err != nil {
				t.Fatal(err)
			}
			gotENI, err := json.Marshal(d.ENI)
			if err != nil {
				t.Fatal(err)
			}
			gotProxy, err := json.Marshal(d.Proxy)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, fmt.Sprintf("eni %s proxy %s", gotENI, gotProxy)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestConvertAWSVPCErrors(t *testing.T) {
	const at = "tasks[0].elasticNetworkInterfaces[0]"
	const proxy = "tasks[0].proxyConfiguration"
	without := func(old, replacement string) string {
		return awsvpcTask(t, "", strings.Replace(mesh, old, replacement, 1))
	}
	for _, tc := range []struct{ task, want string }{
		{withTask(`"networkMode":"awsvpc"`), "tasks[0].elasticNetworkInterfaces: 0 interfaces, and a task has one"},
		{
			withTask(`"elasticNetworkInterfaces":[` + eni(t, "") + `]`),
			"tasks[0].elasticNetworkInterfaces: the network mode bridge has none",
		},
		{awsvpcTask(t, `"macAddress":"lo"`, ""), at + `.macAddress: "lo" is not a hardware address`},
		{awsvpcTask(t, `"domainNameServers":["x"]`, ""), at + `.domainNameServers[0]: "x" is not an address`},
		{awsvpcTask(t, `"ipv4Addresses":[{"privateAddress":"::1"}]`, ""), at + `.ipv4Addresses[0].privateAddress: "::1" is not an IPv4 address`},
		{awsvpcTask(t, `"ipv6Addresses":[{"address":"10.0.0.1"}]`, ""), at + `.ipv6Addresses[0].address: "10.0.0.1" is not an IPv6 address`},
		{awsvpcTask(t, `"subnetGatewayIpv4Address":"fd00::1/64"`, ""), at + `.subnetGatewayIpv4Address: "fd00::1/64" is not a gateway with a prefix length`},
		{awsvpcTask(t, `"subnetGatewayIpv4Address":"10.0.0.1"`, ""), at + `.subnetGatewayIpv4Address: "10.0.0.1" is not an address with a prefix length`},
		{awsvpcTask(t, `"interfaceAssociationProtocol":"veth"`, ""), at + `.interfaceAssociationProtocol: "veth" is not for an EC2 instance`},
		{
			awsvpcTask(t, `"interfaceAssociationProtocol":"vlan","interfaceVlanProperties":{"vlanId":"5000","trunkInterfaceMacAddress":"0a:00:00:00:00:01"}`, ""),
			at + `.interfaceVlanProperties.vlanId: "5000" is not a VLAN`,
		},
		{without(`"APPMESH"`, `"ENVOY"`), proxy + `.type: "ENVOY" is not APPMESH`},
		{without(`"c"`, `"d"`), proxy + `.containerName: the task has no container "d"`},
		{without(`"1337"`, `"root"`), proxy + `.properties.IgnoredUID: "root" is not a number`},
		{without(`"1337"`, `""`), proxy + `.properties.IgnoredUID: is missing, and so is IgnoredGID: the proxy would redirect to itself`},
		{without(`"15001"`, `""`), proxy + `.properties.ProxyEgressPort: "" is not a port`},
		{without(`"15000"`, `"1,2"`), proxy + `.properties.ProxyIngressPort: "1,2" is not a port`},
		{without(`"80, 443"`, `"0"`), proxy + `.properties.AppPorts: "0" is not a port`},
		{without(`"10.1.0.0/16"`, `"10.1"`), proxy + `.properties.EgressIgnoredIPs: "10.1" is neither an address nor a CIDR`},
		{
			awsvpcTask(t, "", `"attachments":[{"attachmentType":"serviceconnectdetail"}]`),
			"tasks[0].attachments[0]: Service Connect, which needs an agent image that only Amazon has, is not supported by this version of Berth",
		},
	} {
		_, err := Conversion{TaskENI: true}.Convert(readTask(t, tc.task), "tasks[0]")
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s\n got %v\nwant %s", tc.task, err, tc.want)
		}
	}
	if _, err := (Conversion{}).Convert(readTask(t, awsvpcTask(t, "", "")), "tasks[0]"); !isUnsupported(err) {
		t.Errorf("a host without task ENIs: %v", err)
	}
}

// TestAttachmentMessages: what is taken on is acknowledged before its device is
// there; what is not is not.
func TestAttachmentMessages(t *testing.T) {
	shelf := &shelf{}
	w := &world{}
	play(t, Config{Attachments: shelf}, w, func(c *wstest.Conn) {
		send := func(kind, id, members string) {
			c.Send(`{"type":"` + kind + `","message":{"messageId":"` + id + `",` + ids + `,` + members + `}}`)
		}
		ofTask := func(id, members, edit string) {
			send("AttachTaskNetworkInterfacesMessage", id, members+`"waitTimeoutMs":60000,"elasticNetworkInterfaces":[`+eni(t, edit)+`]`)
		}
		const taskMember = `"taskArn":"` + taskARN + `",`
		volume := func(id, attachment string) {
			send("ConfirmAttachmentMessage", id, taskMember+`"attachment":`+attachment)
		}
		const ebs = `{"attachmentArn":"arn:aws:ecs:r:1:attachment/bb22","attachmentType":"amazonebs","attachmentProperties":[{"name":"volumeId","value":"vol-1"},` +
			`{"name":"volumeSizeGib","value":"20"},{"name":"deviceName","value":"/dev/sdba"},{"name":"sourceVolumeHostPath","value":"p"},{"name":"volumeName","value":"d"}]}`

		begun := time.Now()
		ofTask("a", taskMember, "")
		c.Expect(ackOf("a"))
		ofTask("b", taskMember, `"interfaceAssociationProtocol":"vlan","interfaceVlanProperties":{"vlanId":"7","trunkInterfaceMacAddress":"0A:99:22:33:44:55"}`)
		c.Expect(ackOf("b"))
		send("AttachInstanceNetworkInterfacesMessage", "c", `"waitTimeoutMs":60000,"elasticNetworkInterfaces":[`+eni(t, `"attachmentArn":"trunk"`)+`]`)
		c.Expect(ackOf("c"))
		volume("d", ebs)
		c.Expect(ackOf("d"))
		shelf.expect(t, begun,
			"task-eni aa11 9ab0 0a:11:22:33:44:55 trunk= vol= 1m0s", "task-eni aa11 9ab0 0a:11:22:33:44:55 trunk=0a:99:22:33:44:55 vol= 1m0s",
			"instance-eni trunk  0a:11:22:33:44:55 trunk= vol= 1m0s", "ebs bb22 9ab0  trunk= vol=vol-1 /dev/sdba 5m0s")

		// None of these is acknowledged, and nothing is taken on.
		ofTask("e", "", "")
		ofTask("f", taskMember, `"macAddress":""`)
		ofTask("g", taskMember, `"macAddress":"0a:11"`)
		ofTask("h", taskMember, `"attachmentArn":""`)
		ofTask("i", taskMember, `"interfaceAssociationProtocol":"vlan","interfaceVlanProperties":{"vlanId":"7","trunkInterfaceMacAddress":"x"}`)
		send("AttachInstanceNetworkInterfacesMessage", "j", `"waitTimeoutMs":0,"elasticNetworkInterfaces":[`+eni(t, "")+`]`)
		volume("k", strings.Replace(ebs, "vol-1", "", 1))
		volume("l", `{"attachmentArn":"arn:aws:ecs:r:1:attachment/bb22","attachmentType":"x","attachmentProperties":[{"name":"resourceType","value":"ElasticBlockStorage"},`+
			`{"name":"volumeID","value":"v"},{"name":"deviceName","value":"d"}]}`)
		heartbeat(c, "1")
		shelf.expect(t, begun)

		// What cannot be kept is not acknowledged either.
		shelf.fill(errors.New("the disk is full"))
		ofTask("m", taskMember, "")
		heartbeat(c, "2")
	})
}

// A host that is made for no attachments acknowledges none.
func TestNoAttachments(t *testing.T) {
	play(t, Config{}, &world{}, func(c *wstest.Conn) {
		c.Send(`{"type":"AttachTaskNetworkInterfacesMessage","message":{"messageId":"a",` + ids + `,"taskArn":"t","waitTimeoutMs":5,"elasticNetworkInterfaces":[` + eni(t, "") + `]}}`)
		heartbeat(c, "1")
	})
}

// shelf is Attachments that remembers.
type shelf struct {
	mu  sync.Mutex // guards the fields below
	got []task.Attachment
	err error
}

func (s *shelf) Accept(_ context.Context, a task.Attachment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.got = append(s.got, a)
	}
	return s.err
}

func (s *shelf) fill(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// expect compares what was taken on since the last call, and empties the shelf.
func (s *shelf) expect(t *testing.T, begun time.Time, want ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []string
	for _, a := range s.got {
		text := fmt.Sprintf("%s %s %s %s trunk=%s vol=%s", a.Kind, task.IDFromARN(a.ARN), task.IDFromARN(a.TaskARN), a.MAC, a.TrunkMAC, a.VolumeID)
		if a.DeviceName != "" {
			text += " " + a.DeviceName
		}
		got = append(got, text+" "+a.ExpiresAt.Sub(begun).Truncate(time.Minute).String())
	}
	s.got = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
