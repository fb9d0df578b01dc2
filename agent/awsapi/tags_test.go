package awsapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInstanceTags(t *testing.T) {
	const tags = `<?xml version="1.0" encoding="UTF-8"?>
<DescribeTagsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId><tagSet>
<item><resourceId>i-1</resourceId><resourceType>instance</resourceType><key>team</key><value>shop</value></item>
<item><resourceId>i-1</resourceId><resourceType>instance</resourceType><key>empty</key><value/></item>
<item><resourceId>i-1</resourceId><resourceType>instance</resourceType><key>aws:autoscaling:groupName</key><value>g</value></item>
<item><resourceId>i-1</resourceId><resourceType>instance</resourceType><key>from</key><value>AWS:x</value></item>
</tagSet></DescribeTagsResponse>`
	refusal := func(code string) string {
		return `<Response><Errors><Error><Code>` + code + `</Code><Message>no</Message></Error></Errors></Response>`
	}
	for _, tc := range []struct {
		name    string
		answers []string // "status body"; the last one again and again
		calls   int
		problem string
	}{
		{"all well", []string{"200 " + tags}, 1, ""},
		{"throttled and in trouble first", []string{"400 " + refusal("RequestLimitExceeded"), "503 ouch", "200 " + tags}, 3, ""},
		{"not allowed", []string{"403 " + refusal("UnauthorizedOperation")}, 1, "cannot call DescribeTags: status 403: UnauthorizedOperation: no"},
		{"no XML", []string{"200 {"}, 1, "cannot call DescribeTags: cannot read the answer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			calls := 0
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				form, err := url.ParseQuery(string(body))
				if err != nil || form.Get("Action") != "DescribeTags" || form.Get("Filter.1.Value.1") != "i-1" || form.Get("Filter.2.Value.1") != "instance" {
					t.Errorf("asked with %s", body)
				}
				if a := r.Header.Get("Authorization"); !strings.Contains(a, "/eu-west-1/ec2/aws4_request") {
					t.Errorf("signed with %s", a)
				}
				answer := tc.answers[min(calls, len(tc.answers)-1)]
				calls++
				status, text, _ := strings.Cut(answer, " ")
				w.WriteHeader(map[string]int{"200": 200, "400": 400, "403": 403, "503": 503}[status])
				_, _ = w.Write([]byte(text))
			}))
			defer s.Close()
			got, err := InstanceTags(t.Context(), InstanceTagsConfig{
				Credentials: NewCredentials(CredentialsConfig{AccessKeyID: "A", SecretAccessKey: "s"}),
				Region:      "eu-west-1", InstanceID: "i-1", Endpoint: s.URL,
			})
			if calls != tc.calls {
				t.Errorf("%d calls, want %d", calls, tc.calls)
			}
			if tc.problem != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tc.problem) {
					t.Errorf("got %v", err)
				}
				return
			}
			if diff := cmp.Diff(map[string]string{"team": "shop", "empty": ""}, got); err != nil || diff != "" {
				t.Errorf("%v: %s", err, diff)
			}
		})
	}
	if _, err := InstanceTags(t.Context(), InstanceTagsConfig{}); err == nil || !strings.Contains(err.Error(), "no EC2 instance") {
		t.Errorf("off EC2: %v", err)
	}
}
