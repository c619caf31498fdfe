package restore

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// Look reads from the API what Refusals needs beside what the situation has already.
func Look(ctx context.Context, reader client.Reader, s *Situation) error {
	var err error
	if s.NamespaceThere, err = exists(ctx, reader, client.ObjectKey{Name: s.Claim.Namespace}, &corev1.Namespace{}); err != nil {
		return err
	}
	claim := &corev1.PersistentVolumeClaim{}
	there, err := exists(ctx, reader, client.ObjectKeyFromObject(s.Claim), claim)
	if err != nil {
		return err
	}
	if there {
		s.ClaimThere = claim
	}
	var volumes corev1.PersistentVolumeList
	var attachments storagev1.VolumeAttachmentList
	var nodes corev1.NodeList
	var fences v1alpha1.NodeFenceList
	for _, list := range []client.ObjectList{&volumes, &attachments, &nodes, &fences} {
		if err := reader.List(ctx, list); err != nil && !isFenceless(list, err) {
			return fmt.Errorf("listing what may use the volume (%T): %w", list, err)
		}
	}
	s.Volumes, s.Attachments, s.Nodes, s.Fences = volumes.Items, attachments.Items, nodes.Items, fences.Items
	return s.lookForPods(ctx, reader)
}

// isFenceless: a cluster without rbd-rescue's kind has no NodeFence.
func isFenceless(list client.ObjectList, err error) bool {
	_, fences := list.(*v1alpha1.NodeFenceList)
	return fences && meta.IsNoMatchError(err)
}

func (s *Situation) lookForPods(ctx context.Context, reader client.Reader) error {
	seen := map[string]bool{}
	for _, claim := range s.Claims() {
		if seen[claim.Namespace] {
			continue
		}
		seen[claim.Namespace] = true
		var pods corev1.PodList
		if err := reader.List(ctx, &pods, client.InNamespace(claim.Namespace)); err != nil {
			return fmt.Errorf("listing the pods of namespace %s: %w", claim.Namespace, err)
		}
		s.Pods = append(s.Pods, pods.Items...)
	}
	return nil
}

func exists(ctx context.Context, reader client.Reader, key client.ObjectKey, into client.Object) (bool, error) {
	err := reader.Get(ctx, key, into)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading %T %s: %w", into, key, err)
	}
	return true, nil
}
