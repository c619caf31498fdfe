package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the API group and version of NodeFence.
var GroupVersion = schema.GroupVersion{Group: "rbd-rescue.io", Version: "v1alpha1"}

// AddToScheme makes a scheme know NodeFence.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &NodeFence{}, &NodeFenceList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
