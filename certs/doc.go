// Package certs gives the webhook its serving certificate: a certificate authority of rbd-rescue's own, kept in one Secret
// and rotated by cert-manager's library (cert-manager itself need not be installed), a short-lived certificate per
// replica that never leaves its memory, and the caBundle of the webhook configuration. It reads no other Secret and
// writes no other object.
package certs
