// Command init is `berth init` alone, for the tests.
package main

import (
	"os"

	"github.com/berthd/berth/runtime/ctrd/initproc"
)

func main() { os.Exit(initproc.Run(os.Args[1:])) }
