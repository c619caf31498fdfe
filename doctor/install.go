package doctor

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
)

// Names that the chart gives, whatever the release's.
const (
	RemediatorName    = "rbd-rescue-remediator"
	WebhookName       = "rbd-rescue-webhook"
	versionLabel      = "app.kubernetes.io/version"
	developersVersion = "development"
)

// leader: one remediator leads.
func leader(f Outside, r *report) string {
	remedy := fmt.Sprintf("See the remediator's pods and logs: kubectl -n %s get pods; kubectl -n %s logs deployment/%s --all-pods.", f.Namespace, f.Namespace, RemediatorName)
	if f.Lease == nil {
		r.fail(remedy, "No remediator has ever led: there is no Lease %s/%s. Nothing is recorded, and nothing would be fenced.", f.Namespace, RemediatorName)
		return ""
	}
	spec := f.Lease.Spec
	if spec.HolderIdentity == nil || *spec.HolderIdentity == "" || spec.RenewTime == nil || spec.LeaseDurationSeconds == nil {
		r.fail(remedy, "No remediator leads: Lease %s/%s has no holder.", f.Namespace, RemediatorName)
		return ""
	}
	duration := time.Duration(*spec.LeaseDurationSeconds) * time.Second
	if age := f.Now.Sub(spec.RenewTime.Time); age > duration {
		r.fail(remedy, "No remediator leads: %s renewed Lease %s/%s %s ago, which holds for %s.", *spec.HolderIdentity, f.Namespace, RemediatorName, age.Round(time.Second), duration)
	}
	return fmt.Sprintf("Remediator %s leads.", *spec.HolderIdentity)
}

// replicas: two of each are ready, so that the failed node may have had one.
func replicas(f Outside, r *report) string {
	for _, name := range []string{RemediatorName, WebhookName} {
		d := f.Deployments[name]
		if d == nil {
			r.fail("Install the chart, or say where it is: --rescue-namespace.", "There is no Deployment %s/%s.", f.Namespace, name)
			continue
		}
		what := fmt.Sprintf("Deployment %s/%s", f.Namespace, name)
		look := fmt.Sprintf("See why: kubectl -n %s describe pods -l app.kubernetes.io/name=rbd-rescue.", f.Namespace)
		switch wanted := desired(d); {
		case wanted == 0:
			r.fail(fmt.Sprintf("kubectl -n %s scale deployment %s --replicas=2.", f.Namespace, name), "%s is scaled to 0 replicas.", what)
		case d.Status.ReadyReplicas == 0:
			r.fail(look, "None of the %d replicas of %s is ready.", wanted, what)
		case d.Status.ReadyReplicas < wanted:
			r.warn(look, "Only %d of the %d replicas of %s are ready.", d.Status.ReadyReplicas, wanted, what)
		case wanted == 1:
			r.warn(fmt.Sprintf("kubectl -n %s scale deployment %s --replicas=2.", f.Namespace, name), "%s has one replica: if its own node fails, nobody acts until Kubernetes has moved it.", what)
		}
	}
	return "All replicas of the remediator and of the webhook are ready."
}

func desired(d *appsv1.Deployment) int32 {
	if d.Spec.Replicas == nil {
		return 1
	}
	return *d.Spec.Replicas
}

// versions: both components, and the program that asks, are of one version, and no roll-out hangs.
func versions(f Outside, r *report) string {
	remediator, webhook := f.Deployments[RemediatorName], f.Deployments[WebhookName]
	if remediator == nil || webhook == nil {
		return ""
	}
	if a, b := image(remediator), image(webhook); a != b {
		r.warn("Upgrade the release as a whole: helm upgrade.", "The remediator runs image %s and the webhook %s.", a, b)
	}
	for _, d := range []*appsv1.Deployment{remediator, webhook} {
		if d.Status.UpdatedReplicas < desired(d) {
			r.warn(fmt.Sprintf("kubectl -n %s rollout status deployment %s.", f.Namespace, d.Name),
				"%d of the %d replicas of Deployment %s/%s run another version than it says.", desired(d)-d.Status.UpdatedReplicas, desired(d), f.Namespace, d.Name)
		}
	}
	installed := remediator.Labels[versionLabel]
	if version := strings.TrimPrefix(f.Version, "v"); f.Version != developersVersion && version != installed {
		r.warn("Use the plugin of the installed version.", "This program is of version %s, and rbd-rescue in namespace %s of %s.", f.Version, f.Namespace, installed)
	}
	return fmt.Sprintf("Version %s is installed.", installed)
}

func image(d *appsv1.Deployment) string {
	if len(d.Spec.Template.Spec.Containers) == 0 {
		return ""
	}
	return d.Spec.Template.Spec.Containers[0].Image
}
