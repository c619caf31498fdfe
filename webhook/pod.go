package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// podHandler admits new pods. It is a raw handler, not the typed defaulter: an idle cluster's pods are decoded only
// for failover-after, and all only as far as they are needed, once, instead of decoded whole, marshalled and compared.
type podHandler struct {
	held interface {
		// Held are the held volumes; false while they are not known yet.
		Held() (volume.HeldClaims, bool)
	}
	// namespaces reads Namespaces from the informer's cache.
	namespaces client.Reader
}

// Handle allows every pod, with a patch if it is to be flagged, or to leave a failed node sooner. A refusal, and a patch that does
// not fit, would stop the pod in spite of failurePolicy Ignore, which covers failed calls only; so nothing here may answer either,
// or panic (the server's own recovery answers with a refusal).
func (h *podHandler) Handle(ctx context.Context, req admission.Request) (response admission.Response) {
	defer func() {
		if p := recover(); p != nil {
			admitted[resultFailedOpen].Inc()
			log.FromContext(ctx).Error(fmt.Errorf("panic: %v", p), "Failed to look at a pod", "namespace", req.Namespace, "pod", req.Name)
			response = admission.Allowed("")
		}
	}()
	patches, result, err := h.admit(ctx, &req)
	if err != nil {
		log.FromContext(ctx).V(1).Info("Allowing a pod without having looked at it", "namespace", req.Namespace, "pod", req.Name,
			"reason", err.Error())
		patches, result = nil, resultFailedOpen
	}
	admitted[result].Inc()
	return admission.Patched("", patches...)
}

func (h *podHandler) admit(ctx context.Context, req *admission.Request) ([]jsonpatch.Operation, result, error) {
	held, known := h.held.Held()
	if !known {
		return nil, "", errors.New("the held volumes are not known yet")
	}
	policy, err := h.policy(ctx, req.Namespace)
	if err != nil {
		return nil, "", err
	}
	after := policy.FailsOverAfter()
	if len(held) == 0 && after == 0 {
		return nil, resultIdle, nil
	}
	if !policy.OptedIn() {
		return nil, resultNotOptedIn, nil
	}
	pod, err := decodePod(req)
	if err != nil {
		return nil, "", err
	}
	flag, err := decideFlag(policy, volume.Claims(pod, req.Namespace), held)
	if err != nil {
		return nil, "", err
	}
	patches := failoverPatches(pod, after)
	if len(patches) > 0 {
		failoverSet.Inc()
	}
	switch {
	case len(held) == 0:
		return patches, resultIdle, nil
	case flag.none():
		return patches, resultNotHeld, nil
	default:
		return append(patches, flagPatches(pod, flag)...), resultFlagged, nil
	}
}

func (h *podHandler) policy(ctx context.Context, name string) (v1alpha1.Policy, error) {
	var namespace corev1.Namespace
	if err := h.namespaces.Get(ctx, client.ObjectKey{Name: name}, &namespace); err != nil {
		return v1alpha1.Policy{}, fmt.Errorf("reading namespace %s: %w", name, err)
	}
	policy, err := v1alpha1.ParsePolicy(namespace.Annotations)
	if err != nil {
		return v1alpha1.Policy{}, fmt.Errorf("reading the policy of namespace %s: %w", name, err)
	}
	return policy, nil
}

// decodePod reads the name, the labels, the annotations, the gates, the tolerations, the node and the volumes of the pod that is
// to be created; all else is left out.
func decodePod(req *admission.Request) (*corev1.Pod, error) {
	if req.Operation != admissionv1.Create || req.Kind.Kind != "Pod" || req.SubResource != "" {
		return nil, fmt.Errorf("%s of %s/%s is not the creation of a pod: check the rules of the webhook configuration",
			req.Operation, req.Kind.Kind, req.SubResource)
	}
	var pod struct {
		Metadata *struct {
			Name        string            `json:"name"`
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
		Spec struct {
			NodeName        string                     `json:"nodeName"`
			SchedulingGates []corev1.PodSchedulingGate `json:"schedulingGates"`
			Tolerations     []corev1.Toleration        `json:"tolerations"`
			Volumes         []corev1.Volume            `json:"volumes"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(req.Object.Raw, &pod); err != nil {
		return nil, fmt.Errorf("decoding the pod: %w", err)
	}
	if pod.Metadata == nil {
		return nil, errors.New("decoding the pod: it has no metadata") // nothing that a patch could be put on
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Metadata.Name, Labels: pod.Metadata.Labels, Annotations: pod.Metadata.Annotations},
		Spec: corev1.PodSpec{
			NodeName: pod.Spec.NodeName, SchedulingGates: pod.Spec.SchedulingGates, Tolerations: pod.Spec.Tolerations, Volumes: pod.Spec.Volumes,
		},
	}, nil
}

func flagPatches(pod *corev1.Pod, f flag) []jsonpatch.Operation {
	patches := append(mapPatches("/metadata/labels", pod.Labels, f.labels),
		mapPatches("/metadata/annotations", pod.Annotations, f.annotations)...)
	if f.gate {
		patches = append(patches, gatePatches(pod)...)
	}
	return patches
}

// gatePatches adds the gate. A pod that comes with its node is left without: the API allows it no gate.
func gatePatches(pod *corev1.Pod) []jsonpatch.Operation {
	gate := corev1.PodSchedulingGate{Name: v1alpha1.GateHeld}
	switch {
	case pod.Spec.NodeName != "", slices.Contains(pod.Spec.SchedulingGates, gate):
		return nil
	case pod.Spec.SchedulingGates == nil:
		return []jsonpatch.Operation{jsonpatch.NewOperation("add", "/spec/schedulingGates", []corev1.PodSchedulingGate{gate})}
	default:
		return []jsonpatch.Operation{jsonpatch.NewOperation("add", "/spec/schedulingGates/-", gate)}
	}
}

// mapPatches gives the map at path these values. Adding a member that exists replaces it (RFC 6902, 4.1), so a forged
// value makes way for the true one; adding to a map that does not exist is an error, so then the map is added.
func mapPatches(path string, existing, values map[string]string) []jsonpatch.Operation {
	if existing == nil {
		return []jsonpatch.Operation{jsonpatch.NewOperation("add", path, values)}
	}
	var patches []jsonpatch.Operation
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if value, ok := existing[key]; !ok || value != values[key] {
			patches = append(patches, jsonpatch.NewOperation("add", path+"/"+pointerToken.Replace(key), values[key]))
		}
	}
	return patches
}

// pointerToken escapes a key for a JSON pointer (RFC 6901, 3).
var pointerToken = strings.NewReplacer("~", "~0", "/", "~1")
