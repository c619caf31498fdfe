package manifests

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

const (
	// Key of the image's metadata. librbd gives no meaning to keys that do not begin with "conf_".
	Key = "rbd-rescue.io/manifests"
	// version of the form. One that is newer than this build knows is not read: what it leaves out might matter.
	version = 1
	// maxBytes of the metadata: librbd reads all of an image's whenever it opens it.
	maxBytes = 32 << 10
)

// Manifests of one volume.
type Manifests struct {
	Version int `json:"version"`
	// SavedAt is when they were written to the image.
	SavedAt metav1.Time `json:"savedAt"`
	// PersistentVolume and Claim are cleaned: they have no UID, resourceVersion, owner, finalizer or status.
	PersistentVolume *corev1.PersistentVolume      `json:"persistentVolume"`
	Claim            *corev1.PersistentVolumeClaim `json:"persistentVolumeClaim"`
	// Clients is the record on the PersistentVolume; empty where nothing was recorded, or nothing that can be read.
	Clients v1alpha1.ClientRecord `json:"clients,omitempty"`
}

// Of gives the manifests of a volume and the claim that it is bound to. SavedAt is the caller's.
func Of(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) Manifests {
	m := Manifests{Version: version, PersistentVolume: cleanVolume(pv), Claim: cleanClaim(claim)}
	if err := json.Unmarshal([]byte(pv.Annotations[v1alpha1.AnnotationClients]), &m.Clients); err != nil {
		m.Clients = nil
	}
	return m
}

// ErrTooLarge says that they can't be kept with the image.
var ErrTooLarge = fmt.Errorf("the manifests take more than %d bytes: shorten the claim's or the volume's annotations, or take nodes whose machines are off for good out of the record (annotation %s)",
	maxBytes, v1alpha1.AnnotationClients)

// Encode gives the metadata's value.
func (m Manifests) Encode() (string, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("encoding the manifests of PersistentVolume %s: %w", m.PersistentVolume.Name, err)
	}
	if len(text) > maxBytes {
		return "", ErrTooLarge
	}
	return string(text), nil
}

// Decode reads a value that Encode gave.
func Decode(text string) (Manifests, error) {
	var m Manifests
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return Manifests{}, fmt.Errorf("decoding metadata %s: %w", Key, err)
	}
	switch {
	case m.Version != version:
		return Manifests{}, fmt.Errorf("metadata %s is of form %d, and this rbd-rescue reads %d: use the release that wrote it, or a newer one", Key, m.Version, version)
	case m.PersistentVolume == nil || m.Claim == nil || m.PersistentVolume.Name == "" || m.Claim.Name == "" || m.Claim.Namespace == "":
		return Manifests{}, errors.New("metadata " + Key + " has no PersistentVolume or no claim")
	case !volume.IsRBD(m.PersistentVolume):
		return Manifests{}, fmt.Errorf("metadata %s has PersistentVolume %s, which is no RBD volume", Key, m.PersistentVolume.Name)
	}
	return m, nil
}

// Same tells whether both say the same, whenever they were saved. They are compared as they are stored: a quantity that
// is written in another way, or an empty list, is no difference there.
func (m Manifests) Same(other Manifests) bool {
	m.SavedAt, other.SavedAt = metav1.Time{}, metav1.Time{}
	return reflect.DeepEqual(m.stored(), other.stored())
}

func (m Manifests) stored() (document any) {
	text, err := json.Marshal(m)
	if err != nil || json.Unmarshal(text, &document) != nil {
		return nil
	}
	return document
}

// Annotations that only mean something in the cluster where they were written, or that would be read as an order.
var dropped = []string{
	v1alpha1.AnnotationClients,
	corev1.LastAppliedConfigAnnotation,
	"pv.kubernetes.io/bind-completed", "pv.kubernetes.io/bound-by-controller",
	"volume.kubernetes.io/selected-node",
}

// identity is what stays of an object's metadata.
func identity(o metav1.ObjectMeta) metav1.ObjectMeta {
	kept := metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name, Labels: o.Labels}
	for key, value := range o.Annotations {
		kept.Annotations = with(kept.Annotations, key, value)
	}
	for _, key := range dropped {
		delete(kept.Annotations, key)
	}
	return *kept.DeepCopy()
}

func with(all map[string]string, key, value string) map[string]string {
	if all == nil {
		all = map[string]string{}
	}
	all[key] = value
	return all
}

func cleanVolume(pv *corev1.PersistentVolume) *corev1.PersistentVolume {
	clean := &corev1.PersistentVolume{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolume"}, ObjectMeta: identity(pv.ObjectMeta), Spec: *pv.Spec.DeepCopy(),
	}
	if ref := pv.Spec.ClaimRef; ref != nil {
		clean.Spec.ClaimRef = claimRef(ref.Namespace, ref.Name)
	}
	return clean
}

func claimRef(namespace, name string) *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: namespace, Name: name}
}

// cleanClaim leaves out where its data came from, and by which labels it wanted a volume: it has its volume.
func cleanClaim(claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	clean := &corev1.PersistentVolumeClaim{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}, ObjectMeta: identity(claim.ObjectMeta), Spec: *claim.Spec.DeepCopy(),
	}
	clean.Spec.DataSource, clean.Spec.DataSourceRef, clean.Spec.Selector = nil, nil, nil
	return clean
}
