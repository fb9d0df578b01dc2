package packaging_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/packaging/machine"
)

// fromName names the commit that the update begins with; without it that is the one before this.
const fromName = "BERTH_TEST_UPDATE_FROM"

// buildPrevious builds the .deb of the previous commit, as a version. Where there is none, because the history was cut off or somebody gave
// us the files alone, it is this tree's again, and that is said.
func buildPrevious(t *testing.T, version string) (deb, commit string) {
	t.Helper()
	commit = os.Getenv(fromName)
	asked := commit != ""
	if !asked {
		commit = "HEAD~1"
	}
	deb, err := buildCommit(t, commit, version)
	switch {
	case err == nil:
		return deb, commit
	case asked:
		t.Fatalf("cannot build %s: %v", commit, err)
	}
	t.Logf("NOT FROM THE PREVIOUS COMMIT, which cannot be built here, but from this one to itself: %v", err)
	return build(t, version).deb, "this tree"
}

func buildCommit(t *testing.T, commit, version string) (deb string, err error) {
	t.Helper()
	dir := t.TempDir()
	// The builder's own git settings do not know this tree where it is another user's.
	const take = `set -e; git -c safe.directory='*' -C .. archive "$1" | tar -x -C "$2"; test -x "$2/packaging/build.sh"`
	if out, err := exec.CommandContext(t.Context(), "bash", "-o", "pipefail", "-c", take, "bash", commit, dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "packaging/build.sh"), "--nfpm", hurriedNFPM(t, "deb"), "--out", filepath.Join(dir, "dist"),
		"--version", version, runtime.GOARCH)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, "dist/*.deb"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("it made %v: %w", found, err)
	}
	return found[0], nil
}

// A history that was cut off is noticed, so that the test below has something to fall back on.
func TestCommitThatIsNotHere(t *testing.T) {
	if deb, err := buildCommit(t, "no-such-commit", "1.0.0"); err == nil {
		t.Errorf("it was built: %s", deb)
	}
}

// busy is a task that sends back what it is sent, and writes twenty numbers a second.
const busy = `{"family":"busy","containerDefinitions":[{"name":"web","image":"127.0.0.1:4580/box:1","memory":32,"cpu":8,"stopTimeout":2,
"portMappings":[{"containerPort":80}],"command":["sh","-c",
"nc -ll -p 80 -e cat & i=0; while :; do for k in 1 2 3 4 5 6 7 8 9 10; do echo $i; i=$((i+1)); done; sleep 0.5; done"]}]}`

// busyLogs is a line of shell that fails unless all numbers are there that the tasks wrote, each once.
func busyLogs(arns []string) string {
	ids := make([]string, len(arns))
	for i, arn := range arns {
		ids[i] = arn[strings.LastIndex(arn, "/")+1:]
	}
	return "for t in " + strings.Join(ids, " ") + `; do
berth logs $t | awk -v t=$t '$1 != n + 0 { print t ": line " n " of the log is " $0; exit 1 } { n++ } END { if (n < 100) { print t " has " n " lines"; exit 1 } }' || exit 1
done`
}

// Thirty tasks, with an open connection and a busy log each, see nothing of an update from the previous commit's package to this one's and
// back, by the package manager and by berth update. What the new version writes the old one understands.
func TestUpdateFromPreviousCommit(t *testing.T) {
	const tasks = 30
	lan := machine.New(t, os.Getenv("BERTH_TEST_MACHINE"))
	next := build(t, "1.1.0")
	previous, commit := buildPrevious(t, "1.0.0")
	c := newCluster(t, lan, next)
	m := lan.Boot(t, "host")
	reach(m)
	m.Write("/etc/ecs/ecs.config", settings+"BERTH_UPDATE_SOURCE=/srv/releases\nBERTH_UPDATE_ROOT=/srv/root.json\n")
	defer lastWords(t, m)
	older, newer := m.Put(previous), m.Put(next.deb)
	m.Run("dpkg -i " + older)
	instance := c.awaitInstances(1)[0]

	arns := c.runMany(busy, tasks)
	load := newLoad(t, lan, c.endpoint+"/_berth/health", c.addresses(arns, m.Address))
	processes := m.Run("ctr -n berth t ls | sort")
	p := newPublisher(t, m)
	p.release("1.1.0", filepath.Join(unpack(t, next.deb), "usr/lib/berth/package/berth"))
	root, err := os.ReadFile(built.owner.root)
	if err != nil {
		t.Fatal(err)
	}
	m.Write("/srv/root.json", string(root))
	c.until(time.Minute, func() error {
		if n := load.saw().Users; n != tasks {
			return fmt.Errorf("%d connections are open, want %d", n, tasks)
		}
		return nil
	})

	for _, step := range []struct{ from, command, to string }{
		{commit, "dpkg -i " + newer, "1.1.0"},
		{"this", "dpkg -i " + older, "1.0.0"},
		{commit, "berth update", "1.1.0"},
		{"this", "berth update --rollback", "1.0.0"},
	} {
		load.saw()
		began := time.Now()
		m.Run(step.command)
		m.Eventually(2*time.Minute, `berth update --check --json | tr -d ' \n' | grep -o '"phase":"confirmed","from":"[0-9.]*","to":"`+step.to+`"'`)
		proved := time.Since(began)
		c.awaitInstances(1)
		saw := load.saw()
		t.Logf("from %s by %s: connected again after %s, proved after %s; ECS did without an agent for %s; %d echoes and %d new connections, the slowest %s",
			step.from, strings.Fields(step.command)[0], saw.Back.Round(10*time.Millisecond), proved.Round(10*time.Millisecond), saw.Away.Round(10*time.Millisecond),
			saw.Echoes, saw.Opened, saw.Slowest.Round(time.Millisecond))
		if len(saw.Broken) > 0 {
			t.Errorf("connections broke: %v", saw.Broken)
		}
		if saw.Users != tasks || saw.Echoes < tasks || saw.Opened == 0 {
			t.Errorf("the tasks were not used: %+v", saw)
		}
		if exe := m.Run("readlink /proc/$(systemctl show --value -p MainPID berth)/exe"); exe != "/usr/lib/berth/versions/"+step.to+"/berth" {
			t.Errorf("the agent is %s", exe)
		}
		if got := c.awaitInstances(1)[0]; got != instance {
			t.Errorf("it is another container instance: %s", got)
		}
		if step.to == "1.1.0" {
			// What only the new version has seen the old one has to know as well.
			c.aws("run-task", "--cluster", "fleet", "--task-definition", "busy", "--started-by", "new")
			c.awaitRunning(tasks + 1)
			continue
		}
		late, _ := c.aws("list-tasks", "--cluster", "fleet", "--started-by", "new")["taskArns"].([]any)
		if len(late) != 1 {
			t.Fatalf("tasks started while the new version was there: %v", late)
		}
		c.aws("stop-task", "--cluster", "fleet", "--task", fmt.Sprint(late[0]))
		c.await(fmt.Sprint(late[0]), "STOPPED")
		m.Eventually(time.Minute, fmt.Sprintf("test $(ctr -n berth t ls -q | wc -l) = %d", tasks))
		if now := m.Run("ctr -n berth t ls | sort"); now != processes {
			t.Errorf("the tasks' processes were\n%s\nand are\n%s", processes, now)
		}
	}
	if said, err := m.Try(busyLogs(arns)); err != nil {
		t.Errorf("logs: %s", said)
	}
}
