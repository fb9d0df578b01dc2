package acs

import (
	"maps"
	"slices"

	"github.com/berthd/berth/agent/task"
	wire "github.com/berthd/berth/agent/wire/acs"
)

// The options of awslogs that are filled in here.
const (
	awslogs            = "awslogs"
	awslogsRegion      = "awslogs-region"
	awslogsEndpoint    = "awslogs-endpoint"
	awslogsCredentials = "awslogs-credentials-endpoint"
)

// log is the driver and its options, spec/task-engine.md §5.10.
func (b *builder) log(out *task.Container, c *wire.Container, docs documents, path string) error {
	driver, options := docs.host.LogConfig.Type, maps.Clone(docs.host.LogConfig.Config)
	if driver == "" {
		driver = defaultLogDriver
	}
	known := b.LogDrivers
	if known == nil {
		known = []string{defaultLogDriver, "none"}
	}
	if !slices.Contains(known, driver) {
		return &UnsupportedError{path + ".dockerConfig.hostConfig.LogConfig.Type", "the log driver " + driver}
	}
	if options["mode"] == "non-blocking" && options["max-buffer-size"] == "" {
		// Docker's own default of 1m loses lines under load.
		options["max-buffer-size"] = "10m"
	}
	out.Log = task.Log{Driver: driver, Options: options}
	if driver == awslogs {
		b.cloudWatch(&out.Log, c)
	}
	return nil
}

// cloudWatch fills in where the lines go, and who signs.
func (b *builder) cloudWatch(log *task.Log, c *wire.Container) {
	if log.Options == nil {
		log.Options = make(map[string]string)
	}
	if log.Options[awslogsRegion] == "" && b.Region != "" {
		log.Options[awslogsRegion] = b.Region
	}
	if domain := isolatedDomain(b.Region); domain != "" && !b.IPv6Only {
		log.Options[awslogsEndpoint] = "https://logs." + b.Region + "." + domain
	}
	if c.LogsAuthStrategy != wire.LogsAuthExecutionRole {
		return
	}
	log.ExecutionRole = true
	if id := b.definition.ExecutionRoleID; id != "" {
		log.Options[awslogsCredentials] = "/v2/credentials/" + id
	}
}

// isolatedDomain is the domain of a region in which containers use the log
// service of their host's region, whatever they name; "" elsewhere.
func isolatedDomain(region string) string {
	switch region {
	case "us-iso-east-1", "us-iso-west-1":
		return "c2s.ic.gov"
	case "us-isob-east-1", "us-isob-west-1":
		return "sc2s.sgov.gov"
	case "eu-isoe-west-1":
		return "cloud.adc-e.uk"
	case "us-isof-south-1", "us-isof-east-1":
		return "csp.hci.ic.gov"
	case "eusc-de-east-1":
		return "amazonaws.eu"
	}
	return ""
}
