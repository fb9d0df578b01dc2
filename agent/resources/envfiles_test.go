package resources

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/task"
)

func TestParseEnvironment(t *testing.T) {
	long := strings.Repeat("x", 60_000)
	for _, tc := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{"A=1", []string{"A=1"}},
		{"A=1\nB=2\n", []string{"A=1", "B=2"}},
		{"A=1\r\nB=2\r\n", []string{"A=1", "B=2"}},
		{"A=a\rb\n", []string{"A=a\rb"}},
		{"# A=1\n #B=2\n", []string{" #B=2"}},
		{"A = 1 \n", []string{"A = 1 "}},
		{"A=b=c\n", []string{"A=b=c"}},
		{`A="q" 'r' $B \n` + "\n", []string{`A="q" 'r' $B \n`}},
		{"A=\n", []string{"A="}},
		{"=1\nno assignment\n\n\nexport B=1\n", []string{"export B=1"}},
		{"A=1\nB=2\nA=3\n", []string{"A=3", "B=2"}},
		{"A=" + long, []string{"A=" + long}},
	} {
		got, err := parseEnvironment([]byte(tc.text))
		if err != nil {
			t.Errorf("%.40q: %v", tc.text, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%.40q: %s", tc.text, diff)
		}
	}
}

// FuzzParseEnvironment: every variable is one that a process can have, and no
// name comes twice.
func FuzzParseEnvironment(f *testing.F) {
	f.Add([]byte("A=1\r\n#\nA=2\n=\nB"))
	f.Fuzz(func(t *testing.T, data []byte) {
		variables, err := parseEnvironment(data)
		seen := map[string]bool{}
		for _, kv := range variables {
			n := name(kv)
			if err == nil && (n == "" || seen[n] || strings.ContainsAny(kv, "\x00\n") || !strings.Contains(kv, "=")) {
				t.Errorf("%q of %q", kv, data)
			}
			seen[n] = true
		}
	})
}

// An earlier file wins over a later one, and all that is set elsewhere wins over
// both; the image's variables alone give way, being under everything.
func TestEnvironmentFiles(t *testing.T) {
	c := &cloud{
		objects: map[string]string{
			"settings/a.env": "BOTH=first\nSET=file\nDB=file\nAWS_REGION=there\nECS_AGENT_URI=http://evil\nA=1\n",
			"settings/b.env": "BOTH=second\nB=2\n",
		},
		parameters: map[string]string{"eu-west-1 db": "secret"},
	}
	r, _ := conduct(t, c)
	web := task.Container{
		Name: "web", Fetched: task.Fetched{Secrets: []task.Secret{ssm("DB", "db")}, EnvironmentFiles: []string{"arn:aws:s3:::settings/a.env", "arn:aws-cn:s3:::settings/b.env"}},
	}
	web.Spec.Process.Env = []string{"SET=definition"}
	job := task.Container{Name: "job", Fetched: task.Fetched{EnvironmentFiles: []string{"arn:aws:s3:::settings/a.env"}}}
	got, err := provision(t, r, definition(web, job))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"DB=secret", "BOTH=first", "AWS_REGION=there", "A=1", "B=2"}, []string(got["web"].SecretEnv)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"BOTH=first", "SET=file", "DB=file", "AWS_REGION=there", "A=1"}, []string(got["job"].SecretEnv)); diff != "" {
		t.Error(diff)
	}
	read := 0
	for _, asked := range c.asked {
		if strings.HasPrefix(asked, "ASIA1 eu-central-1 settings/") {
			read++
		}
	}
	if read != 2 {
		t.Errorf("two files were read %d times: %v", read, c.asked)
	}
}
