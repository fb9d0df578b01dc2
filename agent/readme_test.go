package agent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/berthd/berth/agent/wire/ecs"
)

// row is a line of README's table of the members of a task definition.
var row = regexp.MustCompile("^\\| `([A-Za-z0-9]+)` \\| ([^|]*) \\|( .*)?\\|$")

// readmeRow is what README says of a member.
type readmeRow struct{ verdict, note string }

// sections are the parts of the table: the messages whose members have a row each.
// Members of their members are named in the note.
func sections() map[string]reflect.Type {
	return map[string]reflect.Type{
		"Task":            reflect.TypeFor[ecs.RegisterTaskDefinitionRequest](),
		"Container":       reflect.TypeFor[ecs.ContainerDefinition](),
		"linuxParameters": reflect.TypeFor[ecs.LinuxParameters](),
		"Volume":          reflect.TypeFor[ecs.Volume](),
	}
}

// TestReadmeHasEveryMember: README says of every member of a task definition what
// becomes of it, and of nothing else. What is refused has a reason.
func TestReadmeHasEveryMember(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for section, message := range sections() {
		for _, fault := range faults(rows(string(page), section), message) {
			t.Errorf("README, section %s: %s", section, fault)
		}
	}
}

// rows are the lines of the table in a section.
func rows(page, section string) map[string]readmeRow {
	_, after, _ := strings.Cut(page, "\n### "+section+"\n")
	text, _, _ := strings.Cut(after, "\n#")
	found := map[string]readmeRow{}
	for line := range strings.Lines(text) {
		if m := row.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			found[m[1]] = readmeRow{m[2], m[3]}
		}
	}
	return found
}

// faults is what is wrong with the rows about a message.
func faults(have map[string]readmeRow, message reflect.Type) (wrong []string) {
	known := map[string]bool{}
	for name, member := range members(message) {
		known[name] = true
		r, there := have[name]
		switch {
		case !there:
			wrong = append(wrong, name+" has no row")
			continue
		case !slices.Contains([]string{"works", "refused", "not on Linux", "passed over"}, r.verdict):
			wrong = append(wrong, fmt.Sprintf("%s has the verdict %q", name, r.verdict))
		case r.verdict == "refused" && strings.TrimSpace(r.note) == "":
			wrong = append(wrong, name+" is refused for no reason")
		}
		for _, inner := range inside(member) {
			if !strings.Contains(r.note, "`"+inner+"`") {
				wrong = append(wrong, name+" says nothing of "+inner)
			}
		}
	}
	for name := range have {
		if !known[name] {
			wrong = append(wrong, name+" is no member")
		}
	}
	slices.Sort(wrong)
	return wrong
}

// members are those of a message, by their names on the wire.
func members(message reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for f := range message.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		out[name] = element(f.Type)
	}
	return out
}

// element is what a pointer points to and a list is a list of.
func element(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t
}

// inside are the names of the members of a member, at any depth; those that have a
// section of their own are not counted.
func inside(t reflect.Type) (names []string) {
	if t.Kind() != reflect.Struct {
		return nil
	}
	for _, own := range sections() {
		if own == t {
			return nil
		}
	}
	for name, member := range members(t) {
		names = append(names, name)
		names = append(names, inside(member)...)
	}
	slices.Sort(names)
	return names
}

func TestReadmeFaults(t *testing.T) {
	type inner struct {
		Key string `json:"key"`
	}
	type message struct {
		There  string  `json:"there,omitempty"`
		Absent string  `json:"absent"`
		List   []inner `json:"list,omitzero"`
		Bad    bool    `json:"bad"`
		No     *inner  `json:"no"`
	}
	const page = "\n### X\n| Member | | |\n|---|---|---|\n| `there` | works | |\n| `list` | works | `other` |\n| `bad` | perhaps | |\n" +
		"| `no` | refused | |\n| `odd` | works | |\n\n### Y\n| `absent` | works | |\n"
	want := []string{
		"absent has no row", `bad has the verdict "perhaps"`, "list says nothing of key", "no is refused for no reason", "no says nothing of key", "odd is no member",
	}
	if got := faults(rows(page, "X"), reflect.TypeFor[message]()); !slices.Equal(got, want) {
		t.Errorf("faults %q, want %q", got, want)
	}
}
