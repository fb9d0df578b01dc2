// Command berth runs Amazon ECS tasks on this host, straight on containerd: the agent and all the tools around it in one binary.
package main

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/agent/cli"
	"github.com/berthd/berth/runtime/ctrd/ocifront"
)

func main() {
	if ocifront.Called(os.Args) {
		os.Exit(ocifront.Run(os.Args))
	}
	os.Exit(run())
}

// run is main with deferred calls that happen before the exit.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	return cli.Main(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}
