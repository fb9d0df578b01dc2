package e2e

import (
	"context"
	"os"

	"github.com/berthd/berth/agent/e2e/standin"
)

// standinMain is the program standin: what stands in for AWS, and the commands to
// it.
func standinMain() {
	if err := standin.Main(context.Background(), "127.0.0.1:4590", os.Args[1:], os.Stdout); err != nil {
		standin.Failed(err)
	}
}
