// Khelpd is the khelp daemon and its command line in one program: `khelpd run` hosts helpers and the TCP subsystem, the other commands
// check its configuration or talk to a running daemon over its control socket. See the README for a tour.
package main

import (
	"context"
	"os"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
