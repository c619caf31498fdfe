package certificates

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	admissionreview "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// pod has a claim, as every pod that the webhook is asked about.
func pod() *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: shop, GenerateName: "web-"},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "c", Image: "registry.example.com/app:1"}},
			Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
			}}},
		},
	}
}

var errNotCalled = errors.New("the webhook was not asked")

// podIsChanged makes a pod for a dry run. The API server makes it in any case: only the webhook can have set its tolerations.
func podIsChanged(ctx context.Context) error {
	p := pod()
	if err := admin.Create(ctx, p, client.DryRunAll); err != nil {
		return err
	}
	if !changed(p) {
		return fmt.Errorf("a pod: %w", errNotCalled)
	}
	return nil
}

func changed(p *corev1.Pod) bool {
	return len(p.Spec.Tolerations) > 0 && !slices.ContainsFunc(p.Spec.Tolerations, func(t corev1.Toleration) bool { return *t.TolerationSeconds != failoverAfter })
}

// namespaceIsRefused makes a namespace with a typo for a dry run: only the webhook can have refused it.
func namespaceIsRefused(ctx context.Context) error {
	typo := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "typo", Annotations: map[string]string{v1alpha1.AnnotationMode: "resuce"}}}
	err := admin.Create(ctx, typo, client.DryRunAll)
	switch {
	case err == nil:
		return fmt.Errorf("a namespace: %w", errNotCalled)
	case apierrors.IsForbidden(err) || apierrors.IsInvalid(err):
		return nil
	default:
		return err
	}
}

// askedAnew asks a replica about a pod as an API server does that has no connection yet, and trusts what the configuration says. It
// gives the certificate that was served.
func askedAnew(ctx context.Context, replica int) (*x509.Certificate, error) {
	c, err := readConfigurations(ctx)
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(c.caBundle())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	raw, err := json.Marshal(pod())
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(admissionreview.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionreview.AdmissionRequest{
			UID: "1", Operation: admissionreview.Create, Namespace: shop, Object: runtime.RawExtension{Raw: raw},
			Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
		},
	})
	if err != nil {
		return nil, err
	}
	url := fmt.Sprintf("https://%s:%d/mutate-v1-pod", address, ports[replica])
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	var review admissionreview.AdmissionReview
	if err := json.NewDecoder(response.Body).Decode(&review); err != nil {
		return nil, fmt.Errorf("answer %s: %w", response.Status, err)
	}
	if review.Response == nil || !review.Response.Allowed {
		return nil, fmt.Errorf("answer %s: %+v", response.Status, review.Response)
	}
	return response.TLS.PeerCertificates[0], nil
}
