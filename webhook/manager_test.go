package webhook_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	admissionapi "k8s.io/api/admission/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/rbd-rescue/rbd-rescue/certs"
	"github.com/rbd-rescue/rbd-rescue/certs/apitest"
	"github.com/rbd-rescue/rbd-rescue/webhook"
)

// TestAReplicaFromStartToFlag runs everything that a replica runs, with real informers and real TLS: from an empty
// Secret to a flagged pod, and on while the cluster changes.
func TestAReplicaFromStartToFlag(t *testing.T) {
	t.Parallel()
	api := apitest.New(t,
		node("node-a", corev1.ConditionUnknown), attachment("pv-0", "node-a"), persistentVolume("pv-0", "data-0"),
		node("node-b", corev1.ConditionTrue), attachment("pv-1", "node-b"), persistentVolume("pv-1", "data-1"),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: map[string]string{"rbd-rescue.io/mode": "rescue"}}},
		configuration(),
	)
	port, probes := freePort(t), freePort(t)
	startReplica(t, api, port, probes)
	eventually(t, "the replica is ready", func() bool {
		response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", probes))
		if err != nil {
			return false
		}
		defer func() { _ = response.Body.Close() }()
		return response.StatusCode == http.StatusOK
	})
	eventually(t, "the API server trusts the replica", func() bool { return caBundle(api) != nil })
	heldBy := func(claim string) string { return heldVolumes(t, port, caBundle(api), claim) }
	eventuallyHeld := func(claim, want string) {
		t.Helper()
		eventually(t, claim+" is held as in "+want, func() bool { return heldBy(claim) == want })
	}

	if got, want := heldBy("data-0"), `[{"claim":"shop/data-0","volume":"pv-0","node":"node-a"}]`; got != want {
		t.Errorf("a pod that wants what the failed node holds is flagged %s, want %s", got, want)
	}
	if got := heldBy("data-1"); got != "" {
		t.Errorf("a pod that wants what a Ready node holds is flagged %s", got)
	}

	if got := reviewNamespace(t, port, caBundle(api), "resuce"); !strings.Contains(got, `"resuce" is not a mode`) {
		t.Errorf("a namespace with a typo is answered %q", got)
	}
	if got := reviewNamespace(t, port, caBundle(api), "rescue"); got != "" {
		t.Errorf("a namespace is refused: %s", got)
	}

	api.Put(node("node-b", corev1.ConditionUnknown)) // another node fails
	eventuallyHeld("data-1", `[{"claim":"shop/data-1","volume":"pv-1","node":"node-b"}]`)

	api.Put(attachment("pv-2", "node-b")) // an attachment comes late, and its volume later still
	if got := heldBy("data-2"); got != "" {
		t.Errorf("a pod is flagged %s for a volume that is not there yet", got)
	}
	api.Put(persistentVolume("pv-2", "data-2"))
	eventuallyHeld("data-2", `[{"claim":"shop/data-2","volume":"pv-2","node":"node-b"}]`)

	api.Delete(attachment("pv-1", "node-b")) // a volume is released
	eventuallyHeld("data-1", "")

	api.Put(node("node-a", corev1.ConditionTrue)) // a node is back
	eventuallyHeld("data-0", "")
	api.Delete(node("node-b", corev1.ConditionUnknown)) // a node is gone, and what it had is not yet
	if got, want := heldBy("data-2"), `[{"claim":"shop/data-2","volume":"pv-2","node":"node-b"}]`; got != want {
		t.Errorf("a pod that wants what a node had which is gone is flagged %s, want %s", got, want)
	}
	api.Delete(attachment("pv-2", "node-b"))
	eventuallyHeld("data-2", "")
}

func startReplica(t *testing.T, api *apitest.Server, port, probes int) {
	t.Helper()
	certOptions := certs.Options{
		SecretNamespace: "rbd-rescue", SecretName: "rbd-rescue-webhook-ca", WebhookConfiguration: "rbd-rescue-webhook",
		IPs: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cacheOptions := webhook.CacheOptions()
	maps.Copy(cacheOptions.ByObject, certs.CacheByObject(certOptions))
	again := true
	mgr, err := ctrl.NewManager(api.Config(), ctrl.Options{
		Logger:                 logr.Discard(),
		Cache:                  cacheOptions,
		Metrics:                server.Options{BindAddress: "0"},
		Controller:             config.Controller{SkipNameValidation: &again}, // go test -count
		HealthProbeBindAddress: fmt.Sprintf("127.0.0.1:%d", probes),
		MapperProvider: func(*rest.Config, *http.Client) (meta.RESTMapper, error) {
			return apitest.Mapper([]client.Object{
				&corev1.Node{}, &corev1.Namespace{}, &corev1.PersistentVolume{}, &storagev1.VolumeAttachment{}, &storagev1.CSIDriver{},
				&admissionv1.MutatingWebhookConfiguration{}, &admissionv1.ValidatingWebhookConfiguration{},
			}, []client.Object{&corev1.Secret{}}), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	source, err := certs.Add(t.Context(), mgr, certOptions)
	if err != nil {
		t.Fatal(err)
	}
	if err := webhook.Add(t.Context(), mgr, webhook.Options{Host: "127.0.0.1", Port: port, GetCertificate: source.GetCertificate}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-stopped; err != nil {
			t.Errorf("the replica stopped with: %v", err)
		}
	})
}

// heldVolumes asks the replica, as the API server does, about a pod with this claim; "" if the pod is not flagged.
func heldVolumes(t *testing.T, port int, bundle []byte, claim string) string {
	t.Helper()
	pod := `{"metadata":{"generateName":"web-","labels":{},"annotations":{}},"spec":{"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"` + claim + `"}}]}}`
	answer := review(t, port, bundle, webhook.PodPath, &admissionapi.AdmissionRequest{
		UID: "uid", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Operation: admissionapi.Create,
		Namespace: "shop", Object: runtime.RawExtension{Raw: []byte(pod)},
	})
	if !answer.Allowed {
		t.Fatalf("the pod was refused: %v", answer.Result)
	}
	var patches []struct {
		Path  string `json:"path"`
		Value string `json:"value"`
	}
	if len(answer.Patch) > 0 {
		if err := json.Unmarshal(answer.Patch, &patches); err != nil {
			t.Fatal(err)
		}
	}
	for _, patch := range patches {
		if strings.HasSuffix(patch.Path, "held-volumes") {
			return patch.Value
		}
	}
	return ""
}

func review(t *testing.T, port int, bundle []byte, path string, request *admissionapi.AdmissionRequest) *admissionapi.AdmissionResponse {
	t.Helper()
	text, err := json.Marshal(admissionapi.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: request,
	})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	caller := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
	}}
	response, err := caller.Post(fmt.Sprintf("https://127.0.0.1:%d%s", port, path), "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer admissionapi.AdmissionReview
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Response == nil || answer.Response.UID != request.UID {
		t.Fatalf("no answer to the question: %s", body)
	}
	return answer.Response
}

// reviewNamespace asks the replica, as the API server does, about a new namespace with this mode; "" if it is allowed.
func reviewNamespace(t *testing.T, port int, bundle []byte, mode string) string {
	t.Helper()
	answer := review(t, port, bundle, webhook.NamespacePath, &admissionapi.AdmissionRequest{
		UID: "uid", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Namespace"}, Operation: admissionapi.Create,
		Object: runtime.RawExtension{Raw: []byte(`{"metadata":{"name":"bank","annotations":{"rbd-rescue.io/mode":"` + mode + `"}}}`)},
	})
	if answer.Allowed {
		return ""
	}
	return answer.Result.Message
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if check() {
			return
		}
	}
	t.Fatalf("it never came that %s", what)
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}

func caBundle(api *apitest.Server) []byte {
	return apitest.Get(api, configuration()).Webhooks[0].ClientConfig.CABundle
}

func configuration() *admissionv1.MutatingWebhookConfiguration {
	url := "https://127.0.0.1:9443" + webhook.PodPath
	return &admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "rbd-rescue-webhook"},
		Webhooks:   []admissionv1.MutatingWebhook{{Name: "pods.rbd-rescue.io", ClientConfig: admissionv1.WebhookClientConfig{URL: &url}}},
	}
}

func node(name string, ready corev1.ConditionStatus) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}}}
}

func attachment(pv, node string) *storagev1.VolumeAttachment {
	return &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "csi-" + pv},
		Spec:   storagev1.VolumeAttachmentSpec{NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &pv}},
		Status: storagev1.VolumeAttachmentStatus{Attached: true}}
}

func persistentVolume(name, claim string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{
		ClaimRef:               &corev1.ObjectReference{Namespace: "shop", Name: claim},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "rbd.csi.ceph.com", VolumeHandle: name}},
	}}
}
