package volumes

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/berthd/berth/runtime/volume"
)

// request is what has to be mounted for a volume; nil for a plain directory.
func (v *Volumes) request(w *volume.Volume) (*request, error) {
	if w.EFS != nil {
		return v.efsRequest(w.EFS)
	}
	switch w.Driver {
	case "", volume.DriverLocal:
		return localRequest(w.Name, w.Options)
	case volume.DriverECS:
		return pluginRequest(w.Name, w.Options)
	}
	return nil, fmt.Errorf("create %s: error looking up volume plugin %s: plugin %q not found", w.Name, w.Driver, w.Driver)
}

// localRequest reads the options of the local driver as Docker does: type, device
// and o, none without the others but o.
func localRequest(name string, options map[string]string) (*request, error) {
	if len(options) == 0 {
		return nil, nil
	}
	for key := range options {
		if !slices.Contains([]string{"type", "device", "o"}, key) {
			return nil, fmt.Errorf("create %s: invalid option: %q", name, key)
		}
	}
	for _, key := range []string{"device", "type"} {
		if options[key] == "" {
			return nil, fmt.Errorf("create %s: missing required option: %q", name, key)
		}
	}
	r := &request{
		what:   fmt.Sprintf("volume %s (%s %s)", name, options["type"], options["device"]),
		fstype: options["type"], source: options["device"],
	}
	if strings.HasPrefix(r.source, "-") || strings.HasPrefix(r.fstype, "-") {
		return nil, fmt.Errorf("create %s: device or type begins with -", name)
	}
	if options["o"] != "" {
		r.options = strings.Split(options["o"], ",")
	}
	switch r.fstype {
	case "nfs", "nfs4", "cifs", "smb3", "ceph", "9p":
		r.remote = true
	}
	if r.remote {
		// The kernel takes addresses only.
		for i, option := range r.options {
			host, ok := strings.CutPrefix(option, "addr=")
			if !ok {
				continue
			}
			if _, err := netip.ParseAddr(host); err != nil {
				r.server = host
				r.options = slices.Delete(r.options, i, i+1)
			}
			break
		}
	}
	return r, nil
}

// pluginRequest reads the options of the plugin that mounts EFS beside Docker.
func pluginRequest(name string, options map[string]string) (*request, error) {
	if kind := options["type"]; kind != "" && kind != "efs" {
		return nil, fmt.Errorf("create %s: volume type %q of driver %s is not supported by this version of Berth", name, kind, volume.DriverECS)
	}
	device := options["device"]
	if device == "" || strings.HasPrefix(device, "-") {
		return nil, fmt.Errorf("create %s: missing required option: %q", name, "device")
	}
	r := &request{what: "EFS file system " + device, helper: helperEFS, fstype: "efs", source: device, remote: true}
	if options["o"] != "" {
		r.options = strings.Split(options["o"], ",")
	}
	return r, nil
}
