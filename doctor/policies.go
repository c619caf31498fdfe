package doctor

import (
	"slices"

	admissionv1 "k8s.io/api/admissionregistration/v1"
)

// PolicyNames are the admission policies of the chart, each with a binding of its name.
var PolicyNames = []string{
	"rbd-rescue-nodefences", "rbd-rescue-nodes", "rbd-rescue-persistentvolumes", "rbd-rescue-pods",
	"rbd-rescue-remediator-nodefences", "rbd-rescue-remediator-nodes", "rbd-rescue-remediator-nodes-status", "rbd-rescue-remediator-persistentvolumes",
	"rbd-rescue-remediator-pods", "rbd-rescue-remediator-pods-delete", "rbd-rescue-remediator-volumeattachments",
	"rbd-rescue-webhook-configurations", "rbd-rescue-webhook-secrets",
}

// AgentPolicy is there only with the agents of the nodes: the chart installs these with it, and not without.
const AgentPolicy = "rbd-rescue-node-nodefences"

// policies: what is rbd-rescue's is kept from others, and what it may do is held to what it needs (S3, S5).
func policies(f Outside, r *report) string {
	remedy := "Set policies.enabled=true in the chart's values, and helm upgrade."
	names := PolicyNames
	if f.Policies[AgentPolicy] != nil {
		names = append(slices.Clone(names), AgentPolicy)
	}
	var missing, unbound, broken []string
	for _, name := range names {
		policy, binding := f.Policies[name], f.Bindings[name]
		switch {
		case policy == nil:
			missing = append(missing, name)
		case binding == nil || binding.Spec.PolicyName != name || !slices.Contains(binding.Spec.ValidationActions, admissionv1.Deny):
			unbound = append(unbound, name)
		case policy.Status.TypeChecking != nil && len(policy.Status.TypeChecking.ExpressionWarnings) > 0:
			broken = append(broken, name)
		}
	}
	switch {
	case len(missing) == len(PolicyNames):
		r.warn(remedy, "No admission policy is installed: whoever may write pods, nodes or PersistentVolumes may forge flags, gates, the taint and the records.")
	case len(missing) > 0:
		r.fail(remedy, "Admission policies are missing: %s.", some(missing))
	}
	if len(unbound) > 0 {
		r.fail(remedy, "Admission policies are not bound, or do not deny: %s.", some(unbound))
	}
	if len(broken) > 0 {
		r.warn("See status.typeChecking of these policies: kubectl get validatingadmissionpolicy NAME -o yaml.", "The API server has doubts about the expressions of admission policies: %s.", some(broken))
	}
	return "All admission policies are there and bound."
}
