package resources

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/berthd/berth/runtime/container"
)

// keyring are the logins that the host is configured with, by the registry or the
// part of it that they are for (spec/task-engine.md §7.4).
type keyring map[string]*container.Auth

// The values of ECS_ENGINE_AUTH_TYPE.
const (
	authDocker    = "docker"
	authDockercfg = "dockercfg"
)

// readKeyring reads ECS_ENGINE_AUTH_DATA in the form that ECS_ENGINE_AUTH_TYPE
// says. Its errors hold nothing of the data.
func readKeyring(kind, data string) (keyring, error) {
	if kind == "" && data == "" {
		return nil, nil
	}
	if kind != authDocker && kind != authDockercfg {
		return nil, fmt.Errorf("cannot use ECS_ENGINE_AUTH_TYPE=%q: it is neither %s nor %s", kind, authDocker, authDockercfg)
	}
	type login struct{ Username, Password, Auth string }
	var logins map[string]login
	if err := json.Unmarshal([]byte(data), &logins); err != nil {
		return nil, errors.New("cannot read ECS_ENGINE_AUTH_DATA: it is no JSON object of registries")
	}
	ring := keyring{}
	for host, l := range logins {
		auth := &container.Auth{Username: l.Username, Password: l.Password}
		if kind == authDockercfg {
			text, err := base64.StdEncoding.DecodeString(l.Auth)
			user, password, ok := strings.Cut(string(text), ":")
			if err != nil || !ok {
				return nil, fmt.Errorf("cannot read ECS_ENGINE_AUTH_DATA: the auth of %s is not base64 of user:password", host)
			}
			auth = &container.Auth{Username: user, Password: strings.TrimRight(password, "\x00")}
		}
		ring[registryKey(host)] = auth
	}
	return ring, nil
}

// registryKey is a registry without scheme and last slash.
func registryKey(host string) string {
	host = strings.TrimPrefix(strings.TrimPrefix(host, "https://"), "http://")
	return strings.TrimRight(host, "/")
}

// of is the login for an image, by the longest name that it lies below; nil when
// there is none. A name is only ever matched in whole: a login for example.co is
// not one for example.com.
func (k keyring) of(image string) *container.Auth {
	if len(k) == 0 {
		return nil
	}
	best, found := -1, (*container.Auth)(nil)
	for _, name := range names(image) {
		for key, auth := range k {
			if (name == key || strings.HasPrefix(name, key+"/")) && len(key) > best {
				best, found = len(key), auth
			}
		}
	}
	return found
}

// names are what an image is called: registry/repository, in every form that there
// is for Docker Hub.
func names(image string) []string {
	image, _, _ = strings.Cut(image, "@")
	if slash, colon := strings.LastIndex(image, "/"), strings.LastIndex(image, ":"); colon > slash {
		image = image[:colon]
	}
	registry, repository, ok := strings.Cut(image, "/")
	switch {
	case !ok:
		registry, repository = "docker.io", "library/"+image
	case !strings.ContainsAny(registry, ".:") && registry != "localhost":
		registry, repository = "docker.io", image
	}
	if registry != "docker.io" && registry != "index.docker.io" && registry != "registry-1.docker.io" {
		return []string{registry + "/" + repository}
	}
	// The first is the one that Docker keeps logins under.
	return []string{"index.docker.io/v1/" + repository, "index.docker.io/" + repository, "docker.io/" + repository}
}
