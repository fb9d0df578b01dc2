// Command pushimage pushes the demo's image, the host's static busybox, to a
// registry that speaks plain HTTP: pushimage 127.0.0.1:4580/web:1.
package main

import (
	"fmt"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berthd/berth/agent/e2e/image"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: pushimage REFERENCE")
		os.Exit(2)
	}
	if err := image.Push(os.Args[1], v1.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}}); err != nil {
		fmt.Fprintln(os.Stderr, "pushimage:", err)
		os.Exit(1)
	}
}
