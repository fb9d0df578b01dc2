package daemon

import (
	"os"
	"slices"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/firelens"
	"github.com/berthd/berth/runtime/logs"
	"github.com/berthd/berth/runtime/logs/awslogs"
)

// builtLogDrivers are the drivers that there are on this host. The journal is not
// everywhere.
func builtLogDrivers() []string {
	drivers := []string{
		logs.DriverJSONFile, logs.DriverSyslog, awslogs.Name, logs.DriverFluentd, logs.DriverGELF, logs.DriverSplunk,
		firelens.LogDriver, logs.DriverNone,
	}
	if _, err := os.Stat(logs.JournalSocket); err == nil {
		drivers = append(drivers, logs.DriverJournald)
	}
	return drivers
}

// logDrivers are those of them that the settings allow, and so are advertised.
// Tasks that name another run all the same (spec/task-engine.md §5.10). A log
// router needs no setting.
func logDrivers(c *config.Capability) []string {
	return slices.DeleteFunc(builtLogDrivers(), func(d string) bool {
		return d != firelens.LogDriver && !slices.Contains(c.LoggingDrivers, d)
	})
}
