package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/daemon"
	"github.com/berthd/berth/agent/hostapi"
)

func (a *app) seal() *cobra.Command {
	var file, root string
	cmd := &cobra.Command{
		Use:   "seal",
		Short: "Make this host ready to have a machine image made of it",
		Long: `Take from this host what must not be in a machine image: who it is to ECS, the state and what stopped tasks
left behind, logs and what was downloaded; and of the machine its id, the host keys of sshd, what systemd and
the SSM agent keep as secrets, and the journal. Every instance of the image makes its own when it starts, and
joins its cluster as itself. The program, the settings and the images in containerd stay.

Nothing is changed while the agent or a container runs: systemctl stop berth berth-logs. It is the last thing
to be done before the image is made, as the next boot gives the host a new identity; ECS is not told.

An image that was made of a host without it is no disaster: the agent forgets state of another EC2 instance.`,
		Example: `  systemctl stop berth berth-logs && berth seal && poweroff`,
		Args:    args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return errors.New("needs root")
			}
			o, err := a.hostOptions(file, "seal")
			if err != nil {
				return err
			}
			if root, err = filepath.Abs(root); err != nil {
				return fmt.Errorf("cannot find the root directory: %w", err)
			}
			sealed, err := daemon.Seal(cmd.Context(), *o, root)
			if errors.Is(err, daemon.ErrInUse) {
				return &hostapi.Error{
					Code: "InUse", Message: "cannot seal: " + err.Error(), Hint: "stop the tasks (berth drain --wait), and then the agent: systemctl stop berth berth-logs",
				}
			}
			// What was removed is said even when not all was.
			return errors.Join(a.print(sealed, func(w io.Writer) error { return printSealed(w, &sealed) }), err)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "`path` of the settings file (default "+config.DefaultFile+")")
	f.StringVar(&root, "root", "/", "`directory` in which the machine's id, keys and journal are")
	return cmd
}

func printSealed(w io.Writer, s *daemon.Sealed) error {
	was := "this host had joined no cluster"
	if s.ContainerInstanceARN != "" {
		was = "this host was " + s.ContainerInstanceARN
	}
	lines := []string{was, fmt.Sprintf("removed %d stopped containers, and the network, volumes and cgroups of tasks", s.Containers)}
	for _, path := range s.Removed {
		lines = append(lines, "removed "+path)
	}
	for _, path := range s.Emptied {
		lines = append(lines, "emptied "+path)
	}
	if s.Unknown != "" {
		lines = append(lines, s.Unknown)
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return fmt.Errorf("cannot print: %w", err)
		}
	}
	return nil
}
