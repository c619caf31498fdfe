package kube

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
)

const tokenLifetime = 24 * time.Hour

// writeKubeconfig writes a kubeconfig for a user with everything embedded and returns its path.
func (c *ControlPlane) writeKubeconfig(name string, user clientcmdapi.AuthInfo) (string, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters["lab"] = &clientcmdapi.Cluster{Server: c.url(), CertificateAuthorityData: c.authority.pem}
	config.AuthInfos[name] = &user
	config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: name}
	config.CurrentContext = "lab"
	path := filepath.Join(c.options.Dir, "kubeconfigs", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("making the directory of the kubeconfigs: %w", err)
	}
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return "", fmt.Errorf("writing the kubeconfig of %s: %w", name, err)
	}
	return path, nil
}

// certificateKubeconfig writes a kubeconfig for a user who is known by a client certificate.
func (c *ControlPlane) certificateKubeconfig(name, user string, groups ...string) (string, error) {
	p, err := c.authority.client(user, groups...)
	if err != nil {
		return "", err
	}
	return c.writeKubeconfig(name, clientcmdapi.AuthInfo{ClientCertificateData: p.certificate, ClientKeyData: p.key})
}

// KubeconfigFor writes a kubeconfig with a new token (24 hours) of a service account that exists, and returns its path.
func (c *ControlPlane) KubeconfigFor(ctx context.Context, namespace, serviceAccount string) (string, error) {
	return c.kubeconfigFor(ctx, namespace, serviceAccount, nil)
}

// KubeconfigOnNode is KubeconfigFor with a token that names a node, as that of a pod there does.
func (c *ControlPlane) KubeconfigOnNode(ctx context.Context, namespace, serviceAccount, name string) (string, error) {
	node, err := c.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("reading node %s: %w", name, err)
	}
	return c.kubeconfigFor(ctx, namespace, serviceAccount, &authenticationv1.BoundObjectReference{
		APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID,
	})
}

func (c *ControlPlane) kubeconfigFor(ctx context.Context, namespace, serviceAccount string, to *authenticationv1.BoundObjectReference) (string, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: ptr.To(int64(tokenLifetime / time.Second)), BoundObjectRef: to,
	}}
	token, err := c.client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, serviceAccount, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("requesting a token of service account %s/%s: %w", namespace, serviceAccount, err)
	}
	name := namespace + "." + serviceAccount
	if to != nil {
		name += "." + to.Name
	}
	return c.writeKubeconfig(name, clientcmdapi.AuthInfo{Token: token.Status.Token})
}
