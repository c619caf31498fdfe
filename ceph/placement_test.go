package ceph

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
)

// testdata/placement.txt holds what `ceph osd map` of a Ceph 16.2.15 cluster said, separated by tabs: pg_num, namespace,
// name, hash (hex), placement group (hex).
func TestPlacementGroupIsCephs(t *testing.T) {
	t.Parallel()
	file, err := os.Open("testdata/placement.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := 0
	for scanner := bufio.NewScanner(file); scanner.Scan(); lines++ {
		fields := strings.Split(scanner.Text(), "\t")
		if len(fields) != 5 {
			t.Fatalf("line %q has %d fields", scanner.Text(), len(fields))
		}
		namespace, name := fields[1], fields[2]
		var pgNum, hash, want uint32
		if _, err := fmt.Sscanf(fields[0]+" "+fields[3]+" "+fields[4], "%d %x %x", &pgNum, &hash, &want); err != nil {
			t.Fatalf("line %q: %v", scanner.Text(), err)
		}
		if got := rjenkins(hashKey(name, namespace)); got != hash {
			t.Errorf("the hash of %q in %q is %x, want %x", name, namespace, got, hash)
		}
		if got := PlacementGroup(name, namespace, pgNum); got != want {
			t.Errorf("%q in %q lies in placement group %x of %d, want %x", name, namespace, got, pgNum, want)
		}
	}
	if lines < 700 {
		t.Fatalf("only %d vectors", lines)
	}
}

func TestObjectPerPlacementGroupLeavesNoneOut(t *testing.T) {
	t.Parallel()
	for _, pgNum := range []uint32{1, 2, 3, 8, 100, 128, 1000, 65536} {
		for _, namespace := range []string{"", "tenant"} {
			names, err := ObjectPerPlacementGroup(pgNum, namespace)
			if err != nil || len(names) != int(pgNum) {
				t.Fatalf("%d names for %d placement groups: %v", len(names), pgNum, err)
			}
			for pg, name := range names {
				if got := PlacementGroup(name, namespace, pgNum); int(got) != pg {
					t.Errorf("%q of %d lies in %d, not in %d", name, pgNum, got, pg)
				}
			}
		}
	}
}

func TestObjectPerPlacementGroupRefusesToProveNothing(t *testing.T) {
	t.Parallel()
	for _, pgNum := range []uint32{0, maxPlacementGroups + 1} {
		if names, err := ObjectPerPlacementGroup(pgNum, ""); err == nil {
			t.Errorf("gave %d names for %d placement groups", len(names), pgNum)
		}
	}
}

func BenchmarkObjectPerPlacementGroup(b *testing.B) {
	for b.Loop() {
		if _, err := ObjectPerPlacementGroup(4096, "tenant"); err != nil {
			b.Fatal(err)
		}
	}
}
