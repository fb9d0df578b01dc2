package network

import (
	"testing"

	"github.com/berthd/berth/ipam"
)

// An image whose user is not root serves port 80, and pings, as with Docker; whether it has addresses or not.
func TestUsersMayListenAndPing(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	l.attached(t, "web")
	if err := l.net.Attach(t.Context(), ipam.Endpoint{ID: "none"}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"web", "none"} {
		for key, want := range map[string]string{"ip_unprivileged_port_start": "0", "ping_group_range": "0\t2147483647"} {
			err := within(l.inside(t, id), func() error {
				got, err := readSysctl("net/ipv4/" + key)
				if err == nil && got != want {
					t.Errorf("container %s: %s is %q, want %q", id, key, got, want)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
	}
}
