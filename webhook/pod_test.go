package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	jsonpatchapply "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

type heldFunc func() (volume.HeldClaims, bool)

func (f heldFunc) Held() (volume.HeldClaims, bool) { return f() }

func holding(held volume.HeldClaims) heldFunc {
	return func() (volume.HeldClaims, bool) { return held, true }
}

// unreadable fails the test on any look-up.
type unreadable struct{ t testing.TB }

func (u unreadable) Get(_ context.Context, key client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	u.t.Errorf("looked up %T %s", obj, key)
	return fmt.Errorf("no look-up is expected")
}

func (u unreadable) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	u.t.Errorf("listed %T", list)
	return fmt.Errorf("no look-up is expected")
}

func creation(namespace, pod string) admission.Request {
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: "uid", Operation: admissionv1.Create, Namespace: namespace,
		Kind:   metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
		Object: runtime.RawExtension{Raw: []byte(pod)},
	}}
}

const (
	wantedVolumes = `"spec":{"volumes":[{"name":"tmp","emptyDir":{}},{"name":"data","persistentVolumeClaim":{"claimName":"data-0"}}]}`
	wantedDisk    = `"volumes":[{"name":"disk","persistentVolumeClaim":{"claimName":"disk"}}]`
	diskTruth     = `[{"claim":"shop/disk","volume":"pv-5","node":"node-a","shared":true}]`
	quickTruth    = `[{"claim":"quick/data-0","volume":"pv-6","node":"node-a"}]`
	truth         = `[{"claim":"shop/data-0","volume":"pv-0","node":"node-a"}]`
)

var shopHeld = volume.HeldClaims{
	claim("shop", "data-0"):    {heldVolume("shop/data-0", "pv-0", "node-a")},
	claim("shop", "web-cache"): {heldVolume("shop/web-cache", "pv-1", "node-a")},
	claim("quick", "data-0"):   {heldVolume("quick/data-0", "pv-6", "node-a")},
	claim("plain", "data-0"):   {heldVolume("plain/data-0", "pv-2", "node-a")},
	claim("typo", "data-0"):    {heldVolume("typo/data-0", "pv-3", "node-a")},
	claim("gone", "data-0"):    {heldVolume("gone/data-0", "pv-4", "node-a")},
	claim("shop", "disk"):      {{Claim: "shop/disk", Volume: "pv-5", Node: "node-a", Shared: true}},
}

// TestPodAdmission is not parallel with others that count: its cases read how the counters change.
func TestPodAdmission(t *testing.T) { //nolint:paralleltest
	quoted := func(text string) string { b, _ := json.Marshal(text); return string(b) }
	flaggedDisk := `"name":"vm","labels":{"rbd-rescue.io/held":"true"},"annotations":{"rbd-rescue.io/held-volumes":` + quoted(diskTruth) + `}`
	// The wholes are what the API server stores after the patch.
	for name, test := range map[string]struct {
		namespace string // "shop" if empty
		pod       string
		change    func(*admission.Request)
		held      heldFunc
		wantPatch string // empty: none
		wantPod   string // checked if there is a patch
		want      result
	}{
		"allows without decoding while no failed node holds a volume": {
			pod:  `{not a pod`,
			held: holding(volume.HeldClaims{}),
			want: resultIdle,
		},
		"sets failover-after while no failed node holds a volume": {
			namespace: "quick",
			pod:       `{"metadata":{"name":"web-0"},"spec":{"tolerations":[` + byDefault("not-ready", 300) + `,` + byDefault("unreachable", 300) + `]}}`,
			held:      holding(volume.HeldClaims{}),
			wantPatch: `[{"op":"replace","path":"/spec/tolerations/0/tolerationSeconds","value":30},{"op":"replace","path":"/spec/tolerations/1/tolerationSeconds","value":30}]`,
			wantPod:   `{"metadata":{"name":"web-0"},"spec":{"tolerations":[` + byDefault("not-ready", 30) + `,` + byDefault("unreachable", 30) + `]}}`,
			want:      resultIdle,
		},
		"sets failover-after of a pod whose claims are not held": {
			namespace: "quick",
			pod:       `{"metadata":{"name":"web-0"},"spec":{"tolerations":[` + byDefault("unreachable", 300) + `]}}`,
			wantPatch: `[{"op":"replace","path":"/spec/tolerations/0/tolerationSeconds","value":30}]`,
			wantPod:   `{"metadata":{"name":"web-0"},"spec":{"tolerations":[` + byDefault("unreachable", 30) + `]}}`,
			want:      resultNotHeld,
		},
		"sets failover-after of a pod that is flagged as well": {
			namespace: "quick",
			pod: `{"metadata":{"name":"web-0","labels":{"rbd-rescue.io/held":"true"}},"spec":{"tolerations":[` + byDefault("unreachable", 300) +
				`],"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"data-0"}}]}}`,
			wantPatch: `[{"op":"replace","path":"/spec/tolerations/0/tolerationSeconds","value":30},` +
				`{"op":"add","path":"/metadata/annotations","value":{"rbd-rescue.io/held-volumes":` + quoted(quickTruth) + `}}]`,
			wantPod: `{"metadata":{"name":"web-0","labels":{"rbd-rescue.io/held":"true"},"annotations":{"rbd-rescue.io/held-volumes":` + quoted(quickTruth) +
				`}},"spec":{"tolerations":[` + byDefault("unreachable", 30) + `],"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"data-0"}}]}}`,
			want: resultFlagged,
		},
		"sets no failover-after in mode observe": {
			namespace: "watched",
			pod:       `{not a pod`,
			held:      holding(volume.HeldClaims{}),
			want:      resultIdle,
		},
		"allows while the held volumes are not known yet": {
			pod:  `{"metadata":{"name":"web-0"},` + wantedVolumes + `}`,
			held: func() (volume.HeldClaims, bool) { return nil, false },
			want: resultFailedOpen,
		},
		"S6: leaves the pod of a namespace that did not opt in, without decoding it": {
			namespace: "plain",
			pod:       `{not a pod`,
			want:      resultNotOptedIn,
		},
		"S6: leaves the pod of a namespace whose mode means nothing": {
			namespace: "typo",
			pod:       `{"metadata":{"name":"web-0"},` + wantedVolumes + `}`,
			want:      resultFailedOpen,
		},
		"allows a pod of a namespace that the cache does not have": {
			namespace: "gone",
			pod:       `{"metadata":{"name":"web-0"},` + wantedVolumes + `}`,
			want:      resultFailedOpen,
		},
		"allows a pod that cannot be decoded": {
			pod:  `{"metadata":{"name":7}}`,
			want: resultFailedOpen,
		},
		"allows an empty request": {
			pod:  ``,
			want: resultFailedOpen,
		},
		"allows a pod without metadata, which no patch would fit": {
			pod:  `{` + wantedVolumes + `}`,
			want: resultFailedOpen,
		},
		"allows what is not the creation of a pod": {
			pod:    `{"metadata":{"name":"web-0"},` + wantedVolumes + `}`,
			change: func(r *admission.Request) { r.Operation = admissionv1.Update },
			want:   resultFailedOpen,
		},
		"allows a pod when the code itself is wrong": {
			pod:  `{"metadata":{"name":"web-0"},` + wantedVolumes + `}`,
			held: func() (volume.HeldClaims, bool) { panic("a bug") },
			want: resultFailedOpen,
		},
		"leaves a pod whose claims are not held": {
			pod:  `{"metadata":{"name":"web-0"},"spec":{"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"data-9"}}]}}`,
			want: resultNotHeld,
		},
		"leaves a pod without volumes": {
			pod:  `{"metadata":{"generateName":"web-"},"spec":{}}`,
			want: resultNotHeld,
		},
		"S5: leaves a forged flag alone when nothing of the pod is held": {
			pod:  `{"metadata":{"name":"web-0","labels":{"rbd-rescue.io/held":"true"},"annotations":{"rbd-rescue.io/held-volumes":"[]"}},"spec":{}}`,
			want: resultNotHeld,
		},
		"flags a pod that has neither labels nor annotations": {
			pod: `{"metadata":{"generateName":"web-"},` + wantedVolumes + `}`,
			wantPatch: `[{"op":"add","path":"/metadata/labels","value":{"rbd-rescue.io/held":"true"}},` +
				`{"op":"add","path":"/metadata/annotations","value":{"rbd-rescue.io/held-volumes":` + quoted(truth) + `}}]`,
			wantPod: `{"metadata":{"generateName":"web-","labels":{"rbd-rescue.io/held":"true"},` +
				`"annotations":{"rbd-rescue.io/held-volumes":` + quoted(truth) + `}},` + wantedVolumes + `}`,
			want: resultFlagged,
		},
		"flags a pod and keeps its own labels and annotations, and fields that this version does not know": {
			pod: `{"metadata":{"name":"web-0","labels":{"app":"web"},"annotations":{}},"unknown":1,` + wantedVolumes + `}`,
			wantPatch: `[{"op":"add","path":"/metadata/labels/rbd-rescue.io~1held","value":"true"},` +
				`{"op":"add","path":"/metadata/annotations/rbd-rescue.io~1held-volumes","value":` + quoted(truth) + `}]`,
			wantPod: `{"metadata":{"name":"web-0","labels":{"app":"web","rbd-rescue.io/held":"true"},` +
				`"annotations":{"rbd-rescue.io/held-volumes":` + quoted(truth) + `}},"unknown":1,` + wantedVolumes + `}`,
			want: resultFlagged,
		},
		"flags a pod whose labels are null": {
			pod: `{"metadata":{"name":"web-0","labels":null,"annotations":null},` + wantedVolumes + `}`,
			wantPatch: `[{"op":"add","path":"/metadata/labels","value":{"rbd-rescue.io/held":"true"}},` +
				`{"op":"add","path":"/metadata/annotations","value":{"rbd-rescue.io/held-volumes":` + quoted(truth) + `}}]`,
			wantPod: `{"metadata":{"name":"web-0","labels":{"rbd-rescue.io/held":"true"},` +
				`"annotations":{"rbd-rescue.io/held-volumes":` + quoted(truth) + `}},` + wantedVolumes + `}`,
			want: resultFlagged,
		},
		"S5: the true values take the place of forged ones": {
			pod: `{"metadata":{"name":"web-0","labels":{"rbd-rescue.io/held":"no"},` +
				`"annotations":{"rbd-rescue.io/held-volumes":"[{\"node\":\"node-z\"}]"}},` + wantedVolumes + `}`,
			wantPatch: `[{"op":"add","path":"/metadata/labels/rbd-rescue.io~1held","value":"true"},` +
				`{"op":"add","path":"/metadata/annotations/rbd-rescue.io~1held-volumes","value":` + quoted(truth) + `}]`,
			wantPod: `{"metadata":{"name":"web-0","labels":{"rbd-rescue.io/held":"true"},` +
				`"annotations":{"rbd-rescue.io/held-volumes":` + quoted(truth) + `}},` + wantedVolumes + `}`,
			want: resultFlagged,
		},
		"writes nothing over a flag that is true already": {
			pod: `{"metadata":{"name":"web-0","labels":{"rbd-rescue.io/held":"true"},` +
				`"annotations":{"rbd-rescue.io/held-volumes":` + quoted(truth) + `}},` + wantedVolumes + `}`,
			want: resultFlagged,
		},
		"S1: gates a pod that wants a held ReadWriteMany volume": {
			pod:       `{"metadata":{` + flaggedDisk + `},"spec":{` + wantedDisk + `}}`,
			wantPatch: `[{"op":"add","path":"/spec/schedulingGates","value":[{"name":"rbd-rescue.io/held"}]}]`,
			wantPod:   `{"metadata":{` + flaggedDisk + `},"spec":{"schedulingGates":[{"name":"rbd-rescue.io/held"}],` + wantedDisk + `}}`,
			want:      resultFlagged,
		},
		"gates a pod beside a gate of somebody else": {
			pod:       `{"metadata":{` + flaggedDisk + `},"spec":{"schedulingGates":[{"name":"queue"}],` + wantedDisk + `}}`,
			wantPatch: `[{"op":"add","path":"/spec/schedulingGates/-","value":{"name":"rbd-rescue.io/held"}}]`,
			wantPod:   `{"metadata":{` + flaggedDisk + `},"spec":{"schedulingGates":[{"name":"queue"},{"name":"rbd-rescue.io/held"}],` + wantedDisk + `}}`,
			want:      resultFlagged,
		},
		"writes no second gate": {
			pod:  `{"metadata":{` + flaggedDisk + `},"spec":{"schedulingGates":[{"name":"rbd-rescue.io/held"}],` + wantedDisk + `}}`,
			want: resultFlagged,
		},
		"does not gate a pod that comes with its node: the API would refuse it": {
			pod:  `{"metadata":{` + flaggedDisk + `},"spec":{"nodeName":"node-b",` + wantedDisk + `}}`,
			want: resultFlagged,
		},
		"finds the claim of a generic ephemeral volume by the pod's name": {
			pod: `{"metadata":{"name":"web","labels":{},"annotations":{}},"spec":{"volumes":[{"name":"cache","ephemeral":{"volumeClaimTemplate":{"spec":{}}}}]}}`,
			wantPatch: `[{"op":"add","path":"/metadata/labels/rbd-rescue.io~1held","value":"true"},` +
				`{"op":"add","path":"/metadata/annotations/rbd-rescue.io~1held-volumes","value":` +
				quoted(`[{"claim":"shop/web-cache","volume":"pv-1","node":"node-a"}]`) + `}]`,
			wantPod: `{"metadata":{"name":"web","labels":{"rbd-rescue.io/held":"true"},"annotations":{"rbd-rescue.io/held-volumes":` +
				quoted(`[{"claim":"shop/web-cache","volume":"pv-1","node":"node-a"}]`) + `}},` +
				`"spec":{"volumes":[{"name":"cache","ephemeral":{"volumeClaimTemplate":{"spec":{}}}}]}}`,
			want: resultFlagged,
		},
	} {
		t.Run(name, func(t *testing.T) {
			handler := &podHandler{held: test.held, namespaces: fake.NewClientBuilder().
				WithObjects(namespace("shop", "rescue"), namespace("plain", ""), namespace("typo", "Rescue"),
					failingOver(namespace("quick", "rescue"), "30s"), failingOver(namespace("watched", "observe"), "30s")).Build()}
			if test.held == nil {
				handler.held = holding(shopHeld)
			}
			if test.want == resultFailedOpen && test.held != nil {
				handler.namespaces = unreadable{t}
			}
			if test.namespace == "" {
				test.namespace = "shop"
			}
			req := creation(test.namespace, test.pod)
			if test.change != nil {
				test.change(&req)
			}
			before := counts()

			response := (&admission.Webhook{Handler: handler}).Handle(t.Context(), req)

			if !response.Allowed || response.Result.Code != 200 {
				t.Errorf("the pod was refused: %+v", response.Result)
			}
			if diff := cmp.Diff(test.wantPatch, string(response.Patch)); diff != "" {
				t.Errorf("patch: -want +got:\n%s", diff)
			}
			if test.wantPatch != "" {
				equalJSON(t, test.wantPod, applied(t, test.pod, response.Patch))
			}
			want := before
			want[test.want]++
			if diff := cmp.Diff(want, counts()); diff != "" {
				t.Errorf("counters: -want +got:\n%s", diff)
			}
		})
	}
}

func counts() map[result]float64 {
	now := map[result]float64{}
	for r, counter := range admitted {
		now[r] = testutil.ToFloat64(counter)
	}
	return now
}

func applied(t *testing.T, pod string, patch []byte) string {
	t.Helper()
	decoded, err := jsonpatchapply.DecodePatch(patch)
	if err != nil {
		t.Fatal(err)
	}
	result, err := decoded.Apply([]byte(pod))
	if err != nil {
		t.Fatalf("the API server would refuse the patch, and so the pod: %v", err)
	}
	return string(result)
}

func equalJSON(t *testing.T, want, got string) {
	t.Helper()
	var wanted, gotten any
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(got), &gotten); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wanted, gotten); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// FuzzPodAdmission: whatever the request holds, the pod is allowed and the patch fits.
func FuzzPodAdmission(f *testing.F) {
	for _, pod := range []string{
		`{"metadata":{"name":"web-0"},` + wantedVolumes + `}`, `{"metadata":null}`, `null`, `[]`, ``, `{"metadata":{"labels":{"a":null}}}`,
		`{"Metadata":{"name":"web-0"},` + wantedVolumes + `}`,
	} {
		f.Add(pod)
	}
	f.Add(`{"metadata":{},"spec":{"tolerations":[null,` + byDefault("unreachable", 300) + `]}}`)
	handler := &podHandler{held: holding(shopHeld), namespaces: fake.NewClientBuilder().
		WithObjects(namespace("shop", "rescue"), failingOver(namespace("quick", "rescue"), "30s")).Build()}
	f.Fuzz(func(t *testing.T, pod string) {
		for _, namespace := range []string{"shop", "quick"} {
			if !handler.Handle(t.Context(), creation(namespace, pod)).Allowed {
				t.Errorf("refused %s in %s", pod, namespace)
			}
		}
	})
}

func benchmarkPod(claims int) string {
	var volumes []string
	for i := range claims {
		volumes = append(volumes, fmt.Sprintf(`{"name":"v%d","persistentVolumeClaim":{"claimName":"data-%d"}}`, i, i))
	}
	container := `{"name":"c","image":"registry.example.com/app:1","env":[` + strings.Repeat(`{"name":"A","value":"some text of usual length"},`, 30) +
		`{"name":"B","value":"x"}],"resources":{"limits":{"cpu":"1","memory":"1Gi"}}}`
	return `{"metadata":{"name":"web-0","labels":{"app":"web"},"annotations":{"a":"b"}},"spec":{"volumes":[` + strings.Join(volumes, ",") +
		`],"tolerations":[` + byDefault("not-ready", 300) + `,` + byDefault("unreachable", 300) + `],"containers":[` + container + `,` + container + `]}}`
}

func BenchmarkPodAdmission(b *testing.B) {
	many := volume.HeldClaims{}
	for i := range 10_000 {
		many[claim("shop", fmt.Sprintf("data-%d", i))] = []v1alpha1.HeldVolume{heldVolume(fmt.Sprintf("shop/data-%d", i), "pv", "node-a")}
	}
	for name, bench := range map[string]struct {
		held      volume.HeldClaims
		namespace string
	}{
		"nothing is held": {volume.HeldClaims{}, "shop"},
		"nothing is held, namespace with failover-after":    {volume.HeldClaims{}, "quick"},
		"10000 claims are held, namespace did not opt in":   {many, "plain"},
		"10000 claims are held, pod with 2 of them flagged": {many, "shop"},
	} {
		b.Run(name, func(b *testing.B) {
			handler := &podHandler{held: holding(bench.held), namespaces: cachedNamespaces{
				"shop": namespace("shop", "rescue"), "plain": namespace("plain", ""), "quick": failingOver(namespace("quick", "rescue"), "30s"),
			}}
			req := creation(bench.namespace, benchmarkPod(2))
			b.ReportAllocs()
			for b.Loop() {
				if !handler.Handle(b.Context(), req).Allowed {
					b.Fatal("refused")
				}
			}
		})
	}
}

// cachedNamespaces costs what the informer's cache does: a look-up and a deep copy.
type cachedNamespaces map[string]*corev1.Namespace

func (c cachedNamespaces) Get(_ context.Context, key client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	c[key.Name].DeepCopyInto(obj.(*corev1.Namespace))
	return nil
}

func (c cachedNamespaces) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return fmt.Errorf("no list is expected")
}
