package plan

import "testing"

func TestAVolumeOfWhichNoClientIsKnownIsNotCovered(t *testing.T) {
	t.Parallel()
	proof, missing := verify(incident(proven), incident(proven).Fence.Status.Clients)
	if len(missing) > 0 || !proof.covers("c1", []string{deadClient}) {
		t.Fatalf("the fence is not proven: %v", missing)
	}
	for _, clients := range [][]string{nil, {deadClient, "10.0.0.1:0/43"}, {"nonsense"}} {
		if proof.covers("c1", clients) {
			t.Errorf("S1: %v is covered", clients)
		}
	}
	if proof.covers("c2", []string{deadClient}) {
		t.Error("S1: the same address in another cluster is covered")
	}
}
