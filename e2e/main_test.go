// Package e2e shows the main job on real parts: real Ceph, a real control plane, nodes that fail in every way that the lab
// knows, and the data read back from the images at the end of each scenario.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab"
)

// nodes fail in scenarios, each in one at a time; applications move to the spares. These are many, so that Kubernetes goes on
// evicting pods: it stops where 55 % of the nodes are gone (facts/kubernetes.md §1.1).
var (
	nodes  = []string{"node-a", "node-b", "node-c", "node-d", "node-e", "node-f"}
	spares = []string{"spare-a", "spare-b", "spare-c", "spare-d", "spare-e", "spare-f", "spare-g", "spare-h"}
)

// apart are for scenarios that take Ceph away, one at a time: their volumes are in a cluster that no other scenario needs.
var apart = []string{"apart-a", "apart-b", "apart-c"}

// The scenarios wait more than they compute, so that two labs beside each other on one machine take half the time. Each has a part of
// them; without the flag one lab has all.
const (
	beside = "beside" // those that run beside each other
	alone  = "alone"  // those that have their lab to themselves, one after the other
)

var part = flag.String("part", "", "which scenarios: beside or alone; all if it is empty")

// only skips a scenario of the other part.
func only(t *testing.T, of string) {
	t.Helper()
	if *part != "" && *part != of {
		t.Skipf("it is of the part %q", of)
	}
}

// shared is the lab of all scenarios, each on namespaces of its own.
var shared *lab.Lab

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (result int) {
	flag.Parse()
	if os.Geteuid() != 0 {
		fmt.Println("SKIPPED: the end-to-end scenarios need root, for network namespaces and mounts")
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	var err error
	shared, err = lab.Start(ctx, lab.Options{
		Nodes: slices.Concat(nodes, apart), Spares: spares, SecondCeph: "lab-two", Progress: os.Stdout,
	})
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := shared.Close(ctx, result != 0); err != nil {
			fmt.Println("stopping the lab:", err)
			result = 1
		}
		if _, err := os.Stat(lab.Dir); result == 0 && !os.IsNotExist(err) {
			fmt.Println("the lab has left", lab.Dir, "behind:", err)
			result = 1
		}
	}()
	if err == nil {
		err = shared.Rescue.StartWebhook(ctx)
	}
	if err == nil {
		err = shared.Rescue.StartRemediator(ctx)
	}
	if err != nil {
		fmt.Println("starting the lab:", err)
		return 1
	}
	result = m.Run()
	if result == 0 && whole() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return everyRightIsUsed(ctx)
	}
	return result
}

// whole tells whether all scenarios have run.
func whole() bool {
	run := flag.Lookup("test.run").Value.String()
	skip := flag.Lookup("test.skip").Value.String()
	return run == "" && skip == ""
}
