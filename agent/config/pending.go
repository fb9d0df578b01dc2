package config

// pending says of settings that are read, shown and checked, and that nothing in this version acts on, why. What is built takes its
// line out here; until then a host that sets one is told so, as design and ECS users expect, instead of believing it.
type pending struct {
	reason string
	// effect is the value that describes what Berth does anyway, as the listing shows it. Setting it is no reason for a warning.
	effect string
}

// pendings lists them by name.
func pendings() map[string]pending {
	const (
		awsvpc  = "Berth draws the addresses from which awsvpc tasks reach it"
		updates = "Berth keeps an update beside the version that runs"
		poll    = "Berth reads every container each second, and that costs little"
	)
	return map[string]pending{
		"ECS_UPDATE_DOWNLOAD_DIR": {updates, ""},
		"ECS_CHECKPOINT":          {"Berth always keeps its state", "true"},

		"OverrideAWSVPCLocalIPv4Address":    {awsvpc, ""},
		"ECS_SKIP_LOCALHOST_TRAFFIC_FILTER": {"Berth has no such filter of its own to skip", "false"},

		"ECS_POLL_METRICS":                  {poll, "false"},
		"ECS_POLLING_METRICS_WAIT_DURATION": {poll, ""},
	}
}
