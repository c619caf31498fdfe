package plan

import "testing"

func TestAVolumeOfWhichNoClientIsKnownIsNotCovered(t *testing.T) {
	t.Parallel()
	v := heldVolume("pv-1", "data", "img")
	proof, missing := verify(incident(proven), incident(proven).Fence.Status.Clients)
	if len(missing) > 0 || !proof.covers(v, []string{deadClient}) {
		t.Fatalf("the fence is not proven: %v", missing)
	}
	for _, clients := range [][]string{nil, {deadClient, "10.0.0.1:0/43"}, {"nonsense"}} {
		if proof.covers(v, clients) {
			t.Errorf("S1: %v is covered", clients)
		}
	}
	elsewhere := v
	elsewhere.ClusterID = "c2"
	if proof.covers(elsewhere, []string{deadClient}) {
		t.Error("S1: the same address in another cluster is covered")
	}
}

func TestAVolumeIsCoveredOnlyByTheProofOfAllItsPools(t *testing.T) {
	t.Parallel()
	v := heldVolume("pv-1", "data", "img")
	proof, _ := verify(incident(proven), incident(proven).Fence.Status.Clients)
	for name, pools := range map[string][]string{
		"none is known": nil, "another one": {"slow"}, "the data pool is missing": {"rbd", "data"},
	} {
		if v.Pools = pools; proof.covers(v, []string{deadClient}) {
			t.Errorf("S1: covered although %s", name)
		}
	}
	old, _ := verify(incident(proven, func(s *Snapshot) {
		s.changeCluster(func(c *Cluster) { c.Map.Epoch++ })
	}), incident(proven).Fence.Status.Clients)
	if old.covers(heldVolume("pv-1", "data", "img"), []string{deadClient}) {
		t.Error("S1: covered by the proof of an older map")
	}
}
