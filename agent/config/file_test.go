package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseFile(t *testing.T) {
	tests := []struct{ line, name, value string }{
		{`ECS_CLUSTER=blue`, "ECS_CLUSTER", "blue"},
		{"  ECS_CLUSTER = blue \r", "ECS_CLUSTER", "blue"},
		{`export ECS_CLUSTER=blue`, "ECS_CLUSTER", "blue"},
		{`A="blue green"`, "A", "blue green"},
		{`A='["x"]'`, "A", `["x"]`},
		{`A="[\"x\"]"`, "A", `["x"]`},
		{`A=["x","y"]`, "A", `["x","y"]`},
		{`A={"a":"b=c#d"}`, "A", `{"a":"b=c#d"}`},
		{`A="x" "y"`, "A", `x" "y`},
		{`A=x # not a comment`, "A", "x # not a comment"},
		{`A="`, "A", `"`},
		{`A=`, "A", ""},
		{"\ufeffA=1", "A", "1"},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			entries, problems := parseFile(tt.line)
			if len(problems) > 0 || len(entries) != 1 {
				t.Fatalf("entries %v, problems %v", entries, problems)
			}
			if entries[0].name != tt.name || entries[0].value != tt.value {
				t.Errorf("read %q = %q, want %q = %q", entries[0].name, entries[0].value, tt.name, tt.value)
			}
		})
	}
}

func TestParseFilePassesOver(t *testing.T) {
	entries, problems := parseFile("# comment\n; comment\n\n   \nECS_CLUSTER\nA B=1\n=x\nOK=1\n")
	if len(entries) != 1 || entries[0].line != 8 {
		t.Errorf("entries %v", entries)
	}
	var got []string
	for _, p := range problems {
		got = append(got, p.Message)
	}
	want := []string{
		"line 5 is not KEY=VALUE and is passed over", "line 6 is not KEY=VALUE and is passed over", "line 7 is not KEY=VALUE and is passed over",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add("A=\"\\\"\"\nB='\n=")
	f.Fuzz(func(t *testing.T, text string) {
		entries, _ := parseFile(text)
		for _, e := range entries {
			if e.name == "" || e.line < 1 {
				t.Errorf("entry without a name or a line: %+v", e)
			}
		}
	})
}
