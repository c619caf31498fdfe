package webhook

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

func TestDecideFlag(t *testing.T) {
	t.Parallel()
	held := volume.HeldClaims{
		claim("shop", "data-0"): {heldVolume("shop/data-0", "pv-0", "node-a")},
		claim("shop", "logs-0"): {heldVolume("shop/logs-0", "pv-1", "node-b")},
		claim("vms", "disk"):    {{Claim: "vms/disk", Volume: "pv-9", Node: "node-a", Shared: true}},
		claim("shop", "shared"): {heldVolume("shop/shared", "pv-2", "node-a"), heldVolume("shop/shared", "pv-2", "node-b")},
	}
	flagged := func(text string) flag {
		return flag{
			labels:      map[string]string{"rbd-rescue.io/held": "true"},
			annotations: map[string]string{"rbd-rescue.io/held-volumes": text},
		}
	}
	const sharedByA = `[{"claim":"vms/disk","volume":"pv-9","node":"node-a","shared":true}]`
	gated := func(text string) flag {
		f := flagged(text)
		f.gate = true
		return f
	}
	rescue := v1alpha1.Policy{Mode: v1alpha1.ModeRescue}

	for name, test := range map[string]struct {
		policy v1alpha1.Policy
		claims []types.NamespacedName
		held   volume.HeldClaims
		want   flag
	}{
		"S6: leaves the pod of a namespace that did not opt in": {
			claims: []types.NamespacedName{claim("shop", "data-0")},
			held:   held,
		},
		"leaves a pod without claims": {
			policy: rescue,
			held:   held,
		},
		"leaves a pod whose claims no failed node holds": {
			policy: rescue,
			claims: []types.NamespacedName{claim("shop", "data-1")},
			held:   held,
		},
		"leaves a pod when nothing is held at all": {
			policy: rescue,
			claims: []types.NamespacedName{claim("shop", "data-0")},
		},
		"leaves a pod whose claim only has the name of another namespace's held claim": {
			policy: rescue,
			claims: []types.NamespacedName{claim("bank", "data-0")},
			held:   held,
		},
		"flags a pod whose claim a failed node holds": {
			policy: rescue,
			claims: []types.NamespacedName{claim("shop", "data-0")},
			held:   held,
			want:   flagged(`[{"claim":"shop/data-0","volume":"pv-0","node":"node-a"}]`),
		},
		"flags in mode observe as well": {
			policy: v1alpha1.Policy{Mode: v1alpha1.ModeObserve},
			claims: []types.NamespacedName{claim("shop", "data-0")},
			held:   held,
			want:   flagged(`[{"claim":"shop/data-0","volume":"pv-0","node":"node-a"}]`),
		},
		"S1: gates a pod whose ReadWriteMany claim a failed node holds": {
			policy: rescue,
			claims: []types.NamespacedName{claim("vms", "disk")},
			held:   held,
			want:   gated(sharedByA),
		},
		"S9: gates no pod in mode observe, since nothing would be fenced for it": {
			policy: v1alpha1.Policy{Mode: v1alpha1.ModeObserve},
			claims: []types.NamespacedName{claim("vms", "disk")},
			held:   held,
			want:   flagged(sharedByA),
		},
		"names each held volume once, in the order of the pod's claims, and no other claim": {
			policy: rescue,
			claims: []types.NamespacedName{
				claim("shop", "logs-0"), claim("shop", "data-1"), claim("shop", "data-0"), claim("shop", "logs-0"),
			},
			held: held,
			want: flagged(`[{"claim":"shop/logs-0","volume":"pv-1","node":"node-b"},` +
				`{"claim":"shop/data-0","volume":"pv-0","node":"node-a"}]`),
		},
		"names every failed node that holds a shared volume": {
			policy: rescue,
			claims: []types.NamespacedName{claim("shop", "shared")},
			held:   held,
			want: flagged(`[{"claim":"shop/shared","volume":"pv-2","node":"node-a"},` +
				`{"claim":"shop/shared","volume":"pv-2","node":"node-b"}]`),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := decideFlag(test.policy, test.claims, test.held)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(flag{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
