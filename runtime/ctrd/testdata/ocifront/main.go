// Command ocifront is the front of the OCI runtime alone, for the tests.
package main

import (
	"os"

	"github.com/berthd/berth/runtime/ctrd/ocifront"
)

func main() { os.Exit(ocifront.Run(os.Args)) }
