package restore

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Apply makes the two objects; neither may exist. If the claim can't be made, the volume is taken back: it is to be retained, so
// that its image is safe.
func Apply(ctx context.Context, api client.Client, pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) error {
	made := pv.DeepCopy()
	if err := api.Create(ctx, made); err != nil {
		return fmt.Errorf("making PersistentVolume %s: %w", pv.Name, err)
	}
	err := api.Create(ctx, claim.DeepCopy())
	if err == nil {
		return nil
	}
	err = fmt.Errorf("making claim %s/%s: %w", claim.Namespace, claim.Name, err)
	if undone := api.Delete(ctx, made, client.Preconditions{UID: new(made.UID)}); client.IgnoreNotFound(undone) != nil {
		return errors.Join(err, fmt.Errorf("PersistentVolume %s is left; taking it back: %w", pv.Name, undone))
	}
	return err
}
