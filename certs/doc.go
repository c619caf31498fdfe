// Package certs gives the webhook its serving certificate. By itself: a certificate authority of rbd-rescue's own, kept in one
// Secret and rotated by cert-manager's library (cert-manager itself need not be installed), a short-lived certificate per
// replica that never leaves its memory, and the caBundle of the webhook configuration; it reads no other Secret and
// writes no other object. A new authority's certificate is served once the API server trusts it: no request is dropped meanwhile.
// Or from files that somebody else keeps up to date; then it reads and writes nothing in Kubernetes.
package certs
