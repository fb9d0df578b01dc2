// Package config turns the settings of a host into one validated, immutable [Config].
//
// It is the only package of the agent that reads the environment. A setting may come from several places; the first one that
// says something wins:
//
//	process environment            BERTH_* and ECS_* of the unit or the shell
//	/etc/ecs/ecs.config            KEY=VALUE lines, the file every ECS host already has
//	/etc/ecs/ecs.config.json       JSON, ECS_AGENT_CONFIG_FILE_PATH names another
//	EC2 user data                  JSON of the form {"ECSAgentConfiguration":{…}}, handed in by the caller
//	instance metadata              the region only, handed in by the caller
//	built-in default               what the packaged ECS agent would use
//
// A source that says nothing (an empty string, a zero, an empty list) is passed over; an explicit boolean false is not nothing.
// Every known variable is a row of one table (see rows.go and its neighbours): its names, its accepted form, its bounds, where it
// lands in Config, and, if Berth has no use for it, the reason. From that table come the parser, the warnings with the nearest known
// name, the start-up line of settings that are not honoured, and the listing of `berth config`.
//
// A value that cannot be read is a [Warning] and counts as not set, unless a wrong guess would do harm (attributes, tags, routes,
// logging drivers, the region, timeouts from a JSON file): then Load fails with an error that wraps [ErrInvalid], and the agent ends
// with exit code 5, which systemd does not restart. Values that are secret print as *** everywhere; see [Secret].
package config
