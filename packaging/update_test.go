package packaging_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/agent/update/sign"
	"github.com/berthd/berth/packaging/machine"
)

// owner is who signs the releases that packages of the tests believe.
type owner struct {
	roles map[string]sign.Role
	root  string // the file that says so
}

func newOwner(t *testing.T, dir string) owner {
	t.Helper()
	o := owner{roles: map[string]sign.Role{}}
	for _, role := range sign.Roles() {
		key, err := sign.NewKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		o.roles[role] = sign.Role{Keys: []ed25519.PrivateKey{key}}
	}
	var err error
	if o.root, err = (&sign.Repository{Dir: dir, Roles: o.roles}).WriteRoot(); err != nil {
		t.Fatal(err)
	}
	return o
}

// publisher signs releases in a directory of a machine.
type publisher struct {
	t    *testing.T
	repo *sign.Repository
}

// newPublisher is for a machine with a package of build's.
func newPublisher(t *testing.T, m *machine.Machine) *publisher {
	t.Helper()
	return &publisher{t, &sign.Repository{Dir: filepath.Join(m.Root(), "srv/releases"), Roles: built.owner.roles}}
}

// release publishes a program.
func (p *publisher) release(version, program string) {
	p.t.Helper()
	if err := p.repo.Add(version, "linux-"+runtime.GOARCH, program); err != nil {
		p.t.Fatal(err)
	}
	if err := p.repo.Publish(); err != nil {
		p.t.Fatal(err)
	}
}

// script publishes one that says the right version and otherwise does what the line of shell says.
func (p *publisher) script(version, line string) {
	p.t.Helper()
	path := filepath.Join(p.t.TempDir(), "berth")
	text := fmt.Sprintf("#!/bin/sh\n[ \"$1\" != version ] || exec echo '{\"version\":\"%s\"}'\n%s\n", version, line)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.release(version, path)
}

// lastWords shows what the units of a machine said, when the test has failed.
func lastWords(t *testing.T, m *machine.Machine) {
	t.Helper()
	if t.Failed() {
		said, _ := m.Try("journalctl --no-pager -o cat -u berth -u berth-logs | tail -n 80; systemctl status berth; systemctl list-jobs")
		t.Logf("the journal:\n%s", said)
	}
}

// A host is updated by systemd, to a version that is good, to several that are no good each in its own way, and by packages. Its task
// answers and counts on through all of it.
func TestUpdateOnMachine(t *testing.T) {
	lan := machine.New(t, os.Getenv("BERTH_TEST_MACHINE"))
	first, next := build(t, "1.0.0"), build(t, "1.1.0")
	c := newCluster(t, lan, first)
	m := lan.Boot(t, "host")
	reach(m)
	m.Run("dpkg -i " + m.Put(first.deb))
	p := newPublisher(t, m)
	defer lastWords(t, m)
	m.Write("/etc/ecs/ecs.config", settings+"BERTH_UPDATE_SOURCE=/srv/releases\n")
	// A start that hangs is given five minutes; a test has no time for that.
	m.Write("/etc/systemd/system/berth.service.d/hurry.conf", "[Service]\nTimeoutStartSec=15s\n")
	m.Run("systemctl daemon-reload; systemctl enable --quiet --now berth")
	instance := c.awaitInstances(1)[0]
	task := c.run(counting)
	httpd := m.Eventually(time.Minute, "pgrep -o -x httpd")
	same := func(agent, logs string) {
		t.Helper()
		if got := c.awaitInstances(1)[0]; got != instance {
			t.Errorf("it is another container instance: %s", got)
		}
		for unit, version := range map[string]string{"berth": agent, "berth-logs": logs} {
			got := m.Eventually(20*time.Second, "readlink /proc/$(systemctl show --value -p MainPID "+unit+")/exe | grep /versions/")
			if want := "/usr/lib/berth/versions/" + version + "/berth"; strings.TrimSpace(got) != want {
				t.Errorf("%s is %s, want %s", unit, got, want)
			}
		}
		if now := m.Run("pgrep -o -x httpd"); now != httpd {
			t.Errorf("the task's process was %s and is %s", httpd, now)
		}
		if status := c.task(task, "lastStatus"); status != "RUNNING" {
			t.Errorf("the task is %s", status)
		}
		unbroken(t, m)
	}
	refused := func(want string) {
		t.Helper()
		said, err := m.Try("berth update")
		if err == nil || !strings.Contains(said, want) {
			t.Errorf("berth update (%v) does not say %q:\n%s", err, want, said)
		}
		same("1.1.0", "1.1.0")
	}

	p.release("1.1.0", filepath.Join(unpack(t, next.deb), "usr/lib/berth/package/berth"))
	said := m.Run("berth update")
	t.Log(said)
	if !strings.Contains(said, "updated from 1.0.0 to 1.1.0 in ") {
		t.Errorf("berth update says:\n%s", said)
	}
	same("1.1.0", "1.1.0")

	p.script("1.2.0", "exit 5")
	refused("cannot update to version 1.2.0, 1.1.0 is back: version 1.2.0 could not start: exit-code, exited 5")
	p.script("1.3.0", "kill -SEGV $$")
	refused("cannot update to version 1.3.0, 1.1.0 is back: version 1.3.0 was started 3 times and never came up: it ended: ")
	p.script("1.4.0", "exec sleep 1000")
	refused("cannot update to version 1.4.0, 1.1.0 is back: version 1.4.0 could not start: timeout")

	// It was a program when it was staged, and is none when it is started.
	p.script("1.5.0", "exit 0")
	m.Run("berth update --no-restart; systemctl stop berth; echo no program >/usr/lib/berth/versions/1.5.0/berth; systemctl start berth || true")
	m.Eventually(time.Minute, "berth update --check | grep 'version 1.5.0, came back: version 1.5.0 could not start: exit-code, exited 203'")
	same("1.1.0", "1.1.0")

	// The host loses power between the switch and the proof.
	p.release("1.0.0", filepath.Join(unpack(t, first.deb), "usr/lib/berth/package/berth"))
	m.Run("berth update --to 1.0.0 --no-restart; sync")
	m.Cut()
	m.Boot()
	c.awaitInstances(1)
	m.Eventually(time.Minute, "berth update --check --json | grep -q confirmed; berth version | grep 'berth 1.0.0'")
}
