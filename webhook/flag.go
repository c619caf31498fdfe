package webhook

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// flag is what a pod is given. The zero value is a pod that is left as it is.
type flag struct {
	labels, annotations map[string]string
	// gate: the pod is not scheduled before the remediator says so.
	gate bool
}

// decideFlag says which flag a pod with these claims gets:
//   - none, if the namespace did not opt in: neither label nor annotation is added, replaced or removed (S6);
//   - none, if no failed node holds a volume of its claims; a flag that the pod's owner wrote stays, nobody decides by it (S5);
//   - else the label and the annotation with every held volume, in the order of the pod's claims, in mode observe as well;
//   - in mode rescue the gate as well, if one of the volumes is ReadWriteMany: Kubernetes would start the pod beside a writer
//     that nobody hears of. The others it keeps apart by itself.
func decideFlag(policy v1alpha1.Policy, claims []types.NamespacedName, held volume.HeldClaims) (flag, error) {
	if !policy.OptedIn() {
		return flag{}, nil
	}
	volumes := held.Of(claims)
	if len(volumes) == 0 {
		return flag{}, nil
	}
	text, err := volume.FlagAnnotation(volumes)
	if err != nil {
		return flag{}, err
	}
	return flag{
		labels:      map[string]string{v1alpha1.LabelHeld: "true"},
		annotations: map[string]string{v1alpha1.AnnotationHeldVolumes: text},
		gate:        policy.Mode == v1alpha1.ModeRescue && slices.ContainsFunc(volumes, func(v v1alpha1.HeldVolume) bool { return v.Shared }),
	}, nil
}

// none tells whether the pod is left as it is.
func (f flag) none() bool { return len(f.labels) == 0 && len(f.annotations) == 0 }
