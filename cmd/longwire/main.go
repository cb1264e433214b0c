// Longwire is a WebSocket gateway and the tools around it. Run longwire --help.
package main

import (
	"context"
	"os"

	"github.com/longwire/longwire/internal/cli"
)

func main() { os.Exit(cli.Main(context.Background(), cli.OS())) }
