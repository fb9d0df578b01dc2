package ami_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/template"
)

// ec2 is as much of the EC2 API as Packer needs to make an AMI, for one instance: whoever uses it says what running that means.
// Packer asks it as it would ask EC2, and what it asked is kept.
type ec2 struct {
	tb      testing.TB
	key     string // private, what CreateKeyPair answers
	address string // of the instance
	run     func()
	stop    func()

	mu    sync.Mutex // guards what follows
	asked []url.Values
	state string // of the instance
	image string // its state; "" before there is one
}

// calls are the requests with an action, in order.
func (e *ec2) calls(action string) (found []url.Values) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, v := range e.asked {
		if v.Get("Action") == action {
			found = append(found, v)
		}
	}
	return found
}

// ServeHTTP answers a request of the query API.
func (e *ec2) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	action := r.Form.Get("Action")
	e.mu.Lock()
	e.asked = append(e.asked, r.Form)
	e.mu.Unlock()
	body, known := answers[action]
	switch image := r.Form.Get("ImageId.1"); {
	case action != "DescribeImages":
	case image == "ami-0made":
		body = fmt.Sprintf(body, madeImage)
	case image == "ami-0source" || strings.Contains(r.Form.Encode(), "Owner.1"):
		body = fmt.Sprintf(body, sourceImage)
	default: // whether the name is taken
		body = fmt.Sprintf(body, "")
	}
	if !known {
		e.tb.Errorf("Packer asks EC2 for %s", action)
		http.Error(w, "<Response><Errors><Error><Code>UnsupportedOperation</Code><Message>not here</Message></Error></Errors></Response>", http.StatusBadRequest)
		return
	}
	switch action {
	case "RunInstances":
		e.run()
		e.set("running", "")
	case "StopInstances":
		e.stop()
		e.set("stopped", "")
	case "TerminateInstances":
		e.set("terminated", "")
	case "CreateImage":
		e.set("", "available")
	}
	e.answer(w, action, body)
}

func (e *ec2) set(state, image string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if state != "" {
		e.state = state
	}
	if image != "" {
		e.image = image
	}
}

func (e *ec2) answer(w http.ResponseWriter, action, body string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	text, err := template.New(action).Parse(body)
	if err != nil {
		e.tb.Error(err)
		return
	}
	_, _ = fmt.Fprintf(w, `<?xml version="1.0"?><%sResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r-1</requestId>`, action)
	err = text.Execute(w, map[string]string{"State": e.state, "Image": e.image, "Address": e.address, "Key": e.key, "Code": codes[e.state]})
	if err != nil {
		e.tb.Error(err)
	}
	_, _ = fmt.Fprintf(w, "</%sResponse>", action) // Packer says what it misses.
}

// codes are the numbers of an instance's states.
var codes = map[string]string{"pending": "0", "running": "16", "stopped": "80", "terminated": "48"}

const instance = `<item><instanceId>i-0fake</instanceId><imageId>ami-0source</imageId><instanceState><code>{{.Code}}</code><name>{{.State}}</name></instanceState>
	<architecture>x86_64</architecture><rootDeviceType>ebs</rootDeviceType><rootDeviceName>/dev/xvda</rootDeviceName><virtualizationType>hvm</virtualizationType>
	<dnsName>{{.Address}}</dnsName><ipAddress>{{.Address}}</ipAddress><privateIpAddress>{{.Address}}</privateIpAddress><vpcId>vpc-0fake</vpcId><subnetId>subnet-0fake</subnetId>
	<blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs><volumeId>vol-0fake</volumeId><status>attached</status></ebs></item></blockDeviceMapping></item>`

const sourceImage = `<item><imageId>ami-0source</imageId><name>debian-12-amd64-20260901-0000</name><imageState>available</imageState>
	<architecture>x86_64</architecture><rootDeviceType>ebs</rootDeviceType><rootDeviceName>/dev/xvda</rootDeviceName><virtualizationType>hvm</virtualizationType>
	<creationDate>2026-09-01T00:00:00.000Z</creationDate><imageOwnerId>136693071363</imageOwnerId></item>`

const madeImage = `<item><imageId>ami-0made</imageId><name>made</name><imageState>{{.Image}}</imageState><rootDeviceName>/dev/xvda</rootDeviceName>
	<blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs><snapshotId>snap-0made</snapshotId></ebs></item></blockDeviceMapping></item>`

// answers are what is said to each action, without the frame.
var answers = map[string]string{
	"DescribeRegions":               `<regionInfo><item><regionName>eu-west-1</regionName></item></regionInfo>`,
	"DescribeImages":                `<imagesSet>%s</imagesSet>`,
	"DescribeVpcs":                  `<vpcSet><item><vpcId>vpc-0fake</vpcId><isDefault>true</isDefault></item></vpcSet>`,
	"DescribeSubnets":               `<subnetSet><item><subnetId>subnet-0fake</subnetId><vpcId>vpc-0fake</vpcId></item></subnetSet>`,
	"CreateKeyPair":                 `<keyName>packer</keyName><keyPairId>key-0fake</keyPairId><keyMaterial>{{.Key}}</keyMaterial>`,
	"DeleteKeyPair":                 `<return>true</return>`,
	"CreateSecurityGroup":           `<groupId>sg-0fake</groupId><return>true</return>`,
	"DescribeSecurityGroups":        `<securityGroupInfo><item><groupId>sg-0fake</groupId><vpcId>vpc-0fake</vpcId></item></securityGroupInfo>`,
	"AuthorizeSecurityGroupIngress": `<return>true</return>`,
	"DeleteSecurityGroup":           `<return>true</return>`,
	"RunInstances":                  `<reservationId>r-0fake</reservationId><instancesSet>` + instance + `</instancesSet>`,
	"DescribeInstances":             `<reservationSet><item><instancesSet>` + instance + `</instancesSet></item></reservationSet>`,
	"DescribeInstanceStatus":        `<instanceStatusSet><item><instanceId>i-0fake</instanceId><instanceState><code>{{.Code}}</code><name>{{.State}}</name></instanceState></item></instanceStatusSet>`,
	"DescribeVolumes":               `<volumeSet><item><volumeId>vol-0fake</volumeId></item></volumeSet>`,
	"CreateTags":                    `<return>true</return>`,
	"StopInstances":                 `<instancesSet/>`,
	"TerminateInstances":            `<instancesSet/>`,
	"CreateImage":                   `<imageId>ami-0made</imageId>`,
	"ModifyImageAttribute":          `<return>true</return>`,
	"ModifySnapshotAttribute":       `<return>true</return>`,
	"ModifyInstanceAttribute":       `<return>true</return>`,
}

// order is in which order these actions were first called.
func (e *ec2) order(actions ...string) (order []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, v := range e.asked {
		if action := v.Get("Action"); slices.Contains(actions, action) && !slices.Contains(order, action) {
			order = append(order, action)
		}
	}
	return order
}

// tags are those of a CreateTags request, one a line and in order.
func tags(v url.Values) string {
	var out []string
	for name := range v {
		if tag, ok := strings.CutSuffix(name, ".Key"); ok {
			out = append(out, v.Get(name)+"="+v.Get(tag+".Value"))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}
