//go:build crashable

package main

import (
	"fmt"
	"os"
	"syscall"
)

// crashEnv names the boundary at which the process kills itself, as in "after AddToBlocklist"; empty for none.
const crashEnv = "RBD_RESCUE_CRASH_AT"

// boundary is for the end-to-end tests alone: a release is built without it.
var boundary = crashAt(os.Getenv(crashEnv))

func crashAt(boundary string) func(name string) {
	if boundary == "" {
		return nil
	}
	return func(name string) {
		if name == boundary {
			fmt.Fprintln(os.Stderr, "crashing as told:", name)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until the signal comes
		}
	}
}
