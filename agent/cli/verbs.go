package cli

import "github.com/spf13/cobra"

// verbs lists the command line, in the order in which help shows the groups.
func (a *app) verbs() []*cobra.Command {
	return []*cobra.Command{
		a.ps(),
		a.why(),
		a.logs(),
		a.exec(),
		a.stop(),
		a.run(),
		a.top(),
		a.events(),
		a.images(),
		a.pull(),
		a.status(),
		a.drain(),
		a.doctor(),
		a.bundle(),
		a.config(),
		a.update(),
		a.version(),
		a.agent(),
		a.local(),
		a.logd(),
		a.bake(),
		a.sbom(),
		a.seal(),
		a.purge(),
		a.init(),
	}
}
