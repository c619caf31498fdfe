// Package apiserver runs tests beside etcd and an API server alone, without nodes, controllers and Ceph: on an address of the
// loopback interface that nobody else has, so that they run beside the lab.
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/build"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/kube"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// Lab is what is there for the tests.
type Lab struct {
	API        *kube.ControlPlane
	Binaries   build.Binaries
	Supervisor *process.Supervisor
}

// Run is a package's TestMain: it starts an API server whose files are in dir (short: see kube.Options), prepares what the tests
// need, runs them, and stops everything. The result is the process's. Without root it skips, and says that what is not tested.
func Run(tests interface{ Run() int }, dir, address, what string, prepare func(context.Context, Lab) error) int {
	if os.Geteuid() != 0 {
		fmt.Printf("SKIPPED: %s not tested: the lab needs root\n", what)
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute) // the first build is slow
	defer cancel()
	lab, err := start(ctx, dir, address)
	if err == nil {
		err = prepare(ctx, lab)
	}
	result := 1
	if err != nil {
		fmt.Println("starting the API server with the chart's manifests:", err)
	} else {
		result = tests.Run()
	}
	if lab.Supervisor != nil {
		if err := lab.Supervisor.StopAll(ctx); err != nil {
			fmt.Println("stopping the API server:", err)
			result = 1
		}
	}
	return result
}

func start(ctx context.Context, dir, address string) (lab Lab, err error) {
	if lab.Binaries, err = build.Build(ctx, os.Stdout, build.LabKube, build.RBDRescue, build.Helm); err != nil {
		return lab, err
	}
	if err := errors.Join(process.CleanUp(dir), os.RemoveAll(dir)); err != nil {
		return lab, err
	}
	if lab.Supervisor, err = process.NewSupervisor(dir); err != nil {
		return lab, err
	}
	lab.API, err = kube.StartAPI(ctx, lab.Supervisor, kube.Options{
		Dir: filepath.Join(dir, "kube"), BinDir: lab.Binaries.Dir, IP: netip.MustParseAddr(address),
	})
	return lab, err
}
