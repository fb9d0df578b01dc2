package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/berthd/berth/agent/update"
)

// packagedRoot is whose releases a host believes that was given no other root.
const packagedRoot = "/usr/lib/berth/root.json"

// checkUpdates looks at how the last update went, and at whether another could be had.
func checkUpdates(_ context.Context, p *patient) finding {
	var last update.Record
	text, err := p.read(filepath.Join(p.config.Paths.Data, "update", "record.json"))
	if err == nil {
		err = json.Unmarshal([]byte(text), &last)
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return warn("sudo berth doctor", "what is kept of the last update may not be read")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return warn("", "what is kept of the last update cannot be read: %s", err)
	case last.Phase == update.Returned:
		return warn("berth update --to "+last.To+", or to another version", "version %s came back at %s, and %s runs again: %s",
			last.To, last.Ended.UTC().Format(time.RFC3339), last.From, last.Reason)
	case p.config.Agent.UpdateSource == "":
		return pass("by packages: no BERTH_UPDATE_SOURCE is set")
	}
	root := p.config.Agent.UpdateRoot
	if root == "" {
		root = packagedRoot
	}
	if !p.exists(root) {
		return warn("set BERTH_UPDATE_ROOT to the root.json of whoever signs them", "releases at %s cannot be believed: there is no %s",
			p.config.Agent.UpdateSource, root)
	}
	if last.Phase == update.Confirmed {
		return pass("to %s at %s", last.To, last.Ended.UTC().Format(time.RFC3339))
	}
	return pass("from %s", p.config.Agent.UpdateSource)
}
