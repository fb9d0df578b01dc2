package ocifront

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
)

// errSpec is all that is said of a spec that cannot be read: more words could
// hold a part of it.
var errSpec = errors.New("cannot decode the container's spec")

// mergeSpec adds variables to the process of an OCI spec, over those that it has,
// and makes the path of its root file system absolute. Whatever else is in the
// spec stays as it is.
func mergeSpec(text []byte, bundle string, env []string) ([]byte, error) {
	var spec, process, root map[string]json.RawMessage
	if json.Unmarshal(text, &spec) != nil || json.Unmarshal(spec["process"], &process) != nil ||
		json.Unmarshal(spec["root"], &root) != nil {
		return nil, errSpec
	}
	var have []string
	var path string
	if json.Unmarshal(root["path"], &path) != nil || (process["env"] != nil && json.Unmarshal(process["env"], &have) != nil) {
		return nil, errSpec
	}
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		have = slices.DeleteFunc(have, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		have = append(have, kv)
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(bundle, path)
	}
	set(process, "env", have)
	set(root, "path", path)
	set(spec, "process", process)
	set(spec, "root", root)
	return json.Marshal(spec)
}

// mergeProcess adds the variables that the process does not have: those that it
// has were given to it alone.
func mergeProcess(text []byte, env []string) ([]byte, error) {
	var process map[string]json.RawMessage
	var have []string
	if json.Unmarshal(text, &process) != nil || (process["env"] != nil && json.Unmarshal(process["env"], &have) != nil) {
		return nil, errSpec
	}
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if !slices.ContainsFunc(have, func(e string) bool { return strings.HasPrefix(e, name+"=") }) {
			have = append(have, kv)
		}
	}
	set(process, "env", have)
	return json.Marshal(process)
}

// set replaces a member; what is set here can always be encoded.
func set(object map[string]json.RawMessage, name string, value any) {
	object[name], _ = json.Marshal(value)
}
