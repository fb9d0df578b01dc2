package config

import "slices"

// Live lists the settings that a running agent takes over when it is told to read them again (SIGHUP, systemctl reload berth). All
// others count when the agent starts; it may be restarted at any time without a task noticing.
func Live() []string {
	return []string{
		"ECS_LOGLEVEL",
		"ECS_ENABLE_SPOT_INSTANCE_DRAINING",
		"ECS_ENGINE_AUTH_TYPE",
		"ECS_ENGINE_AUTH_DATA",
		"ECS_DISABLE_IMAGE_CLEANUP",
		"ECS_IMAGE_CLEANUP_INTERVAL",
		"ECS_IMAGE_MINIMUM_CLEANUP_AGE",
		"ECS_NUM_IMAGES_DELETE_PER_CYCLE",
		"ECS_EXCLUDE_UNTRACKED_IMAGE",
		"ECS_ENABLE_UNTRACKED_IMAGE_CLEANUP",
		"NON_ECS_IMAGE_MINIMUM_CLEANUP_AGE",
		"NONECS_NUM_CONTAINERS_DELETE_PER_CYCLE",
		"BERTH_IMAGE_DISK_HIGH",
		"BERTH_IMAGE_DISK_LOW",
	}
}

// Reloaded is what counts after next was read while c was in effect: c, but for what is Live. live and late name the settings that
// differ and count now, or after a restart only. Where two names lead to one place, both are named.
func (c Config) Reloaded(next Config) (now Config, live, late []string) {
	now = c
	now.settings = slices.Clone(c.settings)
	for i, s := range now.settings {
		if i >= len(next.settings) || !differ(&c, &next, i) {
			continue
		}
		if !slices.Contains(Live(), s.Name) {
			late = append(late, s.Name)
			continue
		}
		live = append(live, s.Name)
		now.settings[i] = next.settings[i]
	}
	now.Agent.LogLevel = next.Agent.LogLevel
	now.Instance.SpotDraining = next.Instance.SpotDraining
	pull := now.Image
	now.Image = next.Image
	now.Image.PullBehavior, now.Image.PullUpfront = pull.PullBehavior, pull.PullUpfront
	now.Image.ManifestTimeout, now.Image.PullTimeout, now.Image.InactivityTimeout = pull.ManifestTimeout, pull.PullTimeout, pull.InactivityTimeout
	return now, live, late
}

// differ compares the setting of row i. A secret is shown as *** only, so its place is compared.
func differ(a, b *Config, i int) bool {
	if a.settings[i].Value != b.settings[i].Value {
		return true
	}
	secrets := func(c *Config) map[string]Secret {
		return map[string]Secret{
			"AWS_ACCESS_KEY_ID": c.AWS.AccessKeyID, "AWS_SECRET_ACCESS_KEY": c.AWS.SecretAccessKey, "AWS_SESSION_TOKEN": c.AWS.SessionToken,
			"ECS_ENGINE_AUTH_DATA": c.Image.AuthData, "HTTP_PROXY": Secret(c.Proxy.HTTP), "HTTPS_PROXY": Secret(c.Proxy.HTTPS),
		}
	}
	name := a.settings[i].Name
	return secrets(a)[name] != secrets(b)[name]
}
