// Package status tells what is so: which nodes have failed or are fenced, what their volumes wait for, and what is protected. It reads
// the API alone, and takes each verdict from the decisions that rbd-rescue itself goes by.
package status

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Status is what is so.
type Status struct {
	At time.Time `json:"at"`
	// Namespace of rbd-rescue.
	Namespace string `json:"rescueNamespace"`
	// Paused says who paused rbd-rescue as a whole, and why; nil for nobody.
	Paused     *Pause     `json:"paused,omitempty"`
	Breaker    Breaker    `json:"breaker"`
	Nodes      []Node     `json:"nodes"`
	Waiting    []Pod      `json:"waitingPods"`
	Protection Protection `json:"protection"`
	// Notes say what could not be told.
	Notes []string `json:"notes,omitempty"`
}

// Pause is who wrote that nothing new is fenced.
type Pause struct {
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Breaker is S7: whether so many nodes are bad at once that nothing new is fenced.
type Breaker struct {
	Open     bool `json:"open"`
	Nodes    int  `json:"nodes"`
	Failed   int  `json:"failed"`
	NotReady int  `json:"notReady"`
	Returned int  `json:"returned"`
	// MaxFailedNodes is the setting.
	MaxFailedNodes string `json:"maxFailedNodes"`
}

// Node is one that has failed, is not Ready, is fenced or is paused.
type Node struct {
	Name string `json:"name"`
	// State is Ready, NotReady, Failed or Gone.
	State string       `json:"state"`
	Since *metav1.Time `json:"since,omitempty"`
	// Fence is its active NodeFence; nil for none.
	Fence  *Fence `json:"nodeFence,omitempty"`
	Paused *Pause `json:"paused,omitempty"`
	// Next says what it waits for.
	Next    string   `json:"next,omitempty"`
	Volumes []Volume `json:"volumes,omitempty"`
}

// Fence is a NodeFence in short.
type Fence struct {
	Name     string   `json:"name"`
	Phase    string   `json:"phase"`
	Progress string   `json:"progress,omitempty"`
	Clients  []string `json:"clients,omitempty"`
}

// Volume is one that the node holds, or that its NodeFence lists.
type Volume struct {
	Claim            string `json:"claim"`
	PersistentVolume string `json:"persistentVolume"`
	Image            string `json:"image,omitempty"`
	// Phase is that of the NodeFence, or Held; Neighbour for one that the fence cuts off besides.
	Phase       string `json:"phase"`
	Reason      string `json:"reason,omitempty"`
	WaitsFor    string `json:"waitsFor,omitempty"`
	RecoveredOn string `json:"recoveredOn,omitempty"`
}

// Pod is one that waits for a volume which another node holds.
type Pod struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Gated     bool     `json:"gated"`
	WaitsFor  []string `json:"waitsFor"`
}

// Protection is how far a failure of any node could be told from its records.
type Protection struct {
	// Attached counts RBD volumes that are attached to a node: once for each node that has it.
	Attached int `json:"attached"`
	// Recorded have a fresh record, in a namespace in mode rescue.
	Recorded int `json:"recorded"`
	// Observed are in namespaces that only observe.
	Observed int `json:"observed"`
	// Unrecorded would need the fence of a whole host, or be refused.
	Unrecorded []Unprotected `json:"unrecorded"`
	// NotOptedIn are in namespaces that did not opt in.
	NotOptedIn []Unprotected `json:"notOptedIn"`
}

// Unprotected is an attached volume, and what is missing.
type Unprotected struct {
	Claim            string `json:"claim"`
	PersistentVolume string `json:"persistentVolume"`
	Node             string `json:"node"`
	Why              string `json:"why"`
}
