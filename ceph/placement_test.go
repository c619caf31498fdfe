package ceph

import (
	"bufio"
	"fmt"
	"os"
	"testing"
)

// testdata/placement.txt holds what `osdmaptool --test-map-object` of Ceph 16.2.15 said: name, pg_num, placement group (hex).
func TestPlacementGroupIsCephs(t *testing.T) {
	t.Parallel()
	file, err := os.Open("testdata/placement.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := 0
	for scanner := bufio.NewScanner(file); scanner.Scan(); lines++ {
		var name string
		var pgNum, want uint32
		if _, err := fmt.Sscanf(scanner.Text(), "%s %d %x", &name, &pgNum, &want); err != nil {
			t.Fatalf("line %q: %v", scanner.Text(), err)
		}
		if got := placementGroup(name, "", pgNum); got != want {
			t.Errorf("%s lies in placement group %x of %d, want %x", name, got, pgNum, want)
		}
	}
	if lines == 0 {
		t.Fatal("no vectors")
	}
}

func TestObjectPerPlacementGroupLeavesNoneOut(t *testing.T) {
	t.Parallel()
	for _, pgNum := range []uint32{1, 2, 3, 8, 100, 128, 1000} {
		for _, namespace := range []string{"", "tenant"} {
			for pg, name := range objectPerPlacementGroup(pgNum, namespace) {
				if got := placementGroup(name, namespace, pgNum); int(got) != pg {
					t.Errorf("%q of %d lies in %d, not in %d", name, pgNum, got, pg)
				}
			}
		}
	}
}
