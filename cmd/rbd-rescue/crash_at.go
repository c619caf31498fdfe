//go:build crashable

package main

import (
	"fmt"
	"os"
	"syscall"
)

// crashEnv names the boundary at which the process kills itself, as in "after AddToBlocklist".
const crashEnv = "RBD_RESCUE_CRASH_AT"

// boundary is for the end-to-end tests alone: a release is built without it.
func boundary(name string) {
	if name == os.Getenv(crashEnv) {
		fmt.Fprintln(os.Stderr, "crashing as told:", name)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until the signal comes
	}
}
