package policies

import (
	"context"
	"fmt"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// remediators are attempts with the remediator's token.
func remediators(attempts map[string]attempt) map[string]attempt {
	return by([]string{"remediator"}, attempts)
}

// operationsOnStatus is a JSON patch of the status.
func operationsOnStatus(object client.Object, text string) write {
	return patchStatus(object, types.JSONPatchType, text)
}

func TestTheRemediatorWritesOnlyItsTaintOnNodes(t *testing.T) {
	t.Parallel()
	other := corev1.Taint{Key: "node.kubernetes.io/unreachable", Effect: corev1.TaintEffectNoExecute}
	n := node("restraint-taints", corev1.ConditionUnknown, other, corev1.Taint{Key: "other", Effect: corev1.TaintEffectNoSchedule})
	made(t, n)
	const taints = "the remediator changes no taint but rbd-rescue.io/fenced:NoSchedule"
	others := `{"key":"node.kubernetes.io/unreachable","effect":"NoExecute"},{"key":"other","effect":"NoSchedule"}`
	try(t, remediators(map[string]attempt{
		"adds its taint":            {do: merge(n, `{"spec":{"taints":[%s,{"key":"rbd-rescue.io/fenced","effect":"NoSchedule"}]}}`, others)},
		"adds it with no execution": {do: merge(n, `{"spec":{"taints":[%s,{"key":"rbd-rescue.io/fenced","effect":"NoExecute"}]}}`, others), refused: taints},
		"adds another taint":        {do: merge(n, `{"spec":{"taints":[%s,{"key":"node.kubernetes.io/out-of-service","effect":"NoExecute"}]}}`, others), refused: taints},
		"takes another taint":       {do: merge(n, `{"spec":{"taints":[{"key":"other","effect":"NoSchedule"}]}}`), refused: taints},
		"takes all taints":          {do: merge(n, `{"spec":{"taints":null}}`), refused: taints},
		"changes another's effect":  {do: merge(n, `{"spec":{"taints":[{"key":"node.kubernetes.io/unreachable","effect":"NoExecute"},{"key":"other","effect":"NoExecute"}]}}`), refused: taints},
		"cordons":                   {do: merge(n, `{"spec":{"unschedulable":true}}`), refused: "the remediator changes nothing of a node's spec but taints"},
		"labels":                    {do: merge(n, `{"metadata":{"labels":{"c":"d"}}}`), refused: "the remediator changes no metadata of a node"},
		"takes all labels":          {do: merge(n, `{"metadata":{"labels":null}}`), refused: "the remediator changes no metadata of a node"},
		"annotates":                 {do: merge(n, `{"metadata":{"annotations":{"rbd-rescue.io/paused":"true"}}}`), refused: "the remediator changes no metadata of a node"},
		"gives finalizers":          {do: merge(n, `{"metadata":{"finalizers":["example.com/x"]}}`), refused: "the remediator changes no metadata of a node"},
		"deletes":                   {do: remove(n), refused: "cannot delete resource"},
		"makes":                     {do: create(node("restraint-new", corev1.ConditionTrue)), refused: "cannot create resource"},
	}))
}

func TestTheRemediatorOnlyTakesVolumesFromAFailedNodesStatus(t *testing.T) {
	t.Parallel()
	silent, notReady := node("restraint-silent", corev1.ConditionUnknown), node("restraint-not-ready", corev1.ConditionFalse)
	ready, asked := node("restraint-ready", corev1.ConditionTrue), node("restraint-asked", corev1.ConditionTrue, fenced)
	made(t, silent, notReady, ready, asked)
	const (
		// As rescuer/execute.go writes it: by index, from the end, each with a test.
		one                   = `[{"op":"test","path":"/status/nodeInfo/bootID","value":"boot"},{"op":"test","path":"/status/volumesInUse/0","value":"kubernetes.io/csi/rbd.csi.ceph.com^one"},{"op":"remove","path":"/status/volumesInUse/0"}]`
		both                  = `[{"op":"remove","path":"/status/volumesInUse/2"},{"op":"remove","path":"/status/volumesInUse/0"}]`
		onlyFailed, onlyInUse = "takes volumes only from a node that is not Ready, or is tainted rbd-rescue.io/fenced", "changes nothing of a node's status but volumesInUse"
	)
	try(t, remediators(map[string]attempt{
		"of a silent node":               {do: operationsOnStatus(silent, one)},
		"two of a silent node":           {do: operationsOnStatus(silent, both)},
		"of a node that is not Ready":    {do: operationsOnStatus(notReady, one)},
		"of a Ready node that is fenced": {do: operationsOnStatus(asked, one)},
		"of a Ready node":                {do: operationsOnStatus(ready, one), refused: onlyFailed},
		"another driver's":               {do: operationsOnStatus(silent, `[{"op":"remove","path":"/status/volumesInUse/1"}]`), refused: "removes only RBD volumes from a node's status.volumesInUse"},
		"all":                            {do: mergeStatus(silent, `{"status":{"volumesInUse":null}}`), refused: "removes only RBD volumes from a node's status.volumesInUse"},
		"adds one":                       {do: mergeStatus(silent, `{"status":{"volumesInUse":["a","kubernetes.io/csi/rbd.csi.ceph.com^one","kubernetes.io/csi/other.example.com^two"]}}`), refused: "only removes from a node's status.volumesInUse"},
		"makes it Ready":                 {do: mergeStatus(silent, `{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`), refused: onlyInUse},
		"makes it not Ready":             {do: mergeStatus(ready, `{"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}}`), refused: onlyInUse},
		"takes its conditions":           {do: mergeStatus(silent, `{"status":{"conditions":null}}`), refused: onlyInUse},
		"gives it another boot":          {do: mergeStatus(silent, `{"status":{"nodeInfo":{"bootID":"boot-2"}}}`), refused: onlyInUse},
		"gives it an address":            {do: mergeStatus(silent, `{"status":{"addresses":[{"type":"InternalIP","address":"10.0.0.1"}]}}`), refused: onlyInUse},
		"attaches a volume":              {do: mergeStatus(silent, `{"status":{"volumesAttached":[{"name":"a","devicePath":"b"}]}}`), refused: onlyInUse},
		"labels it":                      {do: mergeStatus(silent, `{"metadata":{"labels":{"c":"d"}}}`), refused: "changes no metadata of a node"},
	}))
}

func TestTheRemediatorDeletesOnlyPodsThatItMayRelease(t *testing.T) {
	t.Parallel()
	onNode := func(p *corev1.Pod) { p.Spec.NodeName = "node-a" }
	stuck := pod("shop", "restraint-stuck", onNode)
	running, unscheduled := pod("shop", "restraint-running", onNode), pod("shop", "restraint-unscheduled", nil)
	ephemeral := pod("shop", "restraint-ephemeral", func(p *corev1.Pod) {
		p.Spec.NodeName = "node-a"
		p.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
			Spec: persistentVolumeClaimSpec(),
		}}}
	})
	stateless := pod("shop", "restraint-stateless", func(p *corev1.Pod) { p.Spec.NodeName = "node-a"; p.Spec.Volumes = nil })
	watched, plain := pod("watched", "restraint-watched", onNode), pod("plain", "restraint-plain", onNode)
	own := pod(ownNamespace, "restraint-own", onNode)
	made(t, stuck, running, unscheduled, ephemeral, stateless, watched, plain, own)
	if err := users["admin"].Delete(t.Context(), copied(stuck)); err != nil { // no kubelet ends it
		t.Fatal(err)
	}
	if err := users["admin"].Get(t.Context(), client.ObjectKeyFromObject(stuck), stuck); err != nil {
		t.Fatal(err)
	}
	const optedIn = "the remediator deletes pods only in namespaces with rbd-rescue.io/mode=rescue (S6)"
	const judged = "the remediator deletes only the very pod that it judged"
	const force = client.GracePeriodSeconds(0)
	exactly := func(p *corev1.Pod) client.DeleteOption {
		version := p.ResourceVersion
		return client.Preconditions{UID: &p.UID, ResourceVersion: &version}
	}
	try(t, remediators(map[string]attempt{
		"force-deletes a stuck pod":                     {do: remove(stuck, force, exactly(stuck))},
		"asks a running pod to go":                      {do: remove(running, exactly(running))},
		"asks a pod with an ephemeral claim to go":      {do: remove(ephemeral, exactly(ephemeral))},
		"force-deletes a running pod":                   {do: remove(running, force, exactly(running)), refused: "force-deletes only pods that are Terminating"},
		"force-deletes whatever has the name":           {do: remove(stuck, force), refused: judged},
		"force-deletes what may have changed":           {do: remove(stuck, force, client.Preconditions{UID: &stuck.UID}), refused: judged},
		"deletes a pod that is on no node":              {do: remove(unscheduled, exactly(unscheduled)), refused: "deletes only pods that are on a node and use a claim"},
		"deletes a pod without a claim":                 {do: remove(stateless, exactly(stateless)), refused: "deletes only pods that are on a node and use a claim"},
		"deletes a pod where it only observes":          {do: remove(watched, exactly(watched)), refused: optedIn},
		"deletes a pod of a namespace without any mode": {do: remove(plain, exactly(plain)), refused: optedIn},
		"deletes its own pod":                           {do: remove(own, exactly(own)), refused: optedIn},
		"deletes all pods at once": {do: func(ctx context.Context, c client.Client) error {
			return c.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace("shop"))
		}, refused: "cannot deletecollection resource"},
	}))
}

func TestTheRemediatorWritesOnlyFlagAndGateOnPods(t *testing.T) {
	t.Parallel()
	plain, waiting := pod("shop", "restraint-plain", nil), pod("shop", "restraint-gated", gated)
	watched, out := pod("watched", "restraint-flag", nil), pod("plain", "restraint-flag", flagged)
	never := pod("plain", "restraint-never", nil)
	made(t, plain, waiting, watched, out, never)
	const (
		flag     = `{"metadata":{"labels":{"rbd-rescue.io/held":"true"},"annotations":{"rbd-rescue.io/held-volumes":"[]"}}}`
		unflag   = `{"metadata":{"labels":{"rbd-rescue.io/held":null},"annotations":{"rbd-rescue.io/held-volumes":null}}}`
		metadata = "the remediator changes no metadata of a pod but label rbd-rescue.io/held and annotation rbd-rescue.io/held-volumes"
		spec     = "the remediator changes nothing of a pod's spec, but opens gate rbd-rescue.io/held"
		optedIn  = "the remediator flags pods only in namespaces with rbd-rescue.io/mode=rescue or observe (S6)"
	)
	try(t, remediators(map[string]attempt{
		"flags":                        {do: merge(plain, flag)},
		"flags where it only observes": {do: merge(watched, flag)},
		"changes what a pod waits for": {do: merge(waiting, `{"metadata":{"annotations":{"rbd-rescue.io/held-volumes":"[]"}}}`)},
		"takes a flag away":            {do: merge(waiting, unflag)},
		"takes a flag away where a namespace opted out": {do: merge(out, unflag)},
		"opens its gate":                        {do: operations(waiting, openGate)},
		"flags in a namespace without any mode": {do: merge(never, flag), refused: optedIn},
		"writes another label into the flag":    {do: merge(plain, `{"metadata":{"labels":{"rbd-rescue.io/held":"x"}}}`), refused: optedIn},
		"opens another gate":                    {do: operations(waiting, `[{"op":"remove","path":"/spec/schedulingGates/0"}]`), refused: spec},
		"opens all gates":                       {do: merge(waiting, `{"spec":{"schedulingGates":null}}`), refused: spec},
		"changes an image":                      {do: operations(plain, `[{"op":"replace","path":"/spec/containers/0/image","value":"evil:1"}]`), refused: spec},
		"tolerates a taint":                     {do: operations(plain, `[{"op":"add","path":"/spec/tolerations/-","value":{"key":"a","operator":"Exists"}}]`), refused: spec},
		"labels":                                {do: merge(plain, `{"metadata":{"labels":{"app":"other"}}}`), refused: metadata},
		"takes another label":                   {do: merge(plain, `{"metadata":{"labels":{"app":null}}}`), refused: metadata},
		"annotates":                             {do: merge(plain, `{"metadata":{"annotations":{"a":"b"}}}`), refused: metadata},
		"takes its owner":                       {do: merge(plain, `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"a","uid":"b"}]}}`), refused: metadata},
		"writes its status":                     {do: mergeStatus(plain, `{"status":{"phase":"Failed"}}`), refused: "cannot patch resource"},
	}))
}

func TestTheRemediatorOnlyLetsVolumeAttachmentsGo(t *testing.T) {
	t.Parallel()
	attachment := func(name, attacher string) *storagev1.VolumeAttachment {
		pv := "pv-" + name
		return &storagev1.VolumeAttachment{
			ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: []string{"external-attacher/" + attacher, "example.com/x"}},
			Spec:       storagev1.VolumeAttachmentSpec{Attacher: attacher, NodeName: "node-a", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &pv}},
		}
	}
	attached, rooks, others := attachment("restraint-attached", "rbd.csi.ceph.com"), attachment("restraint-rook", "rook-ceph.rbd.csi.ceph.com"), attachment("restraint-other", "evilrbd.csi.ceph.com")
	going := attachment("restraint-going", "rbd.csi.ceph.com")
	made(t, attached, rooks, others, going)
	if err := users["admin"].Delete(t.Context(), copied(going)); err != nil { // its finalizers keep it
		t.Fatal(err)
	}
	const onlyGoing, onlyRBD = "changes nothing of a VolumeAttachment, but takes the finalizers from one that is being deleted", "touches only VolumeAttachments of RBD drivers"
	free := func(va *storagev1.VolumeAttachment) write {
		return operations(va, fmt.Sprintf(`[{"op":"test","path":"/metadata/uid","value":%q},{"op":"remove","path":"/metadata/finalizers"}]`, va.UID))
	}
	try(t, remediators(map[string]attempt{
		"deletes one":                            {do: remove(attached, client.Preconditions{UID: &attached.UID})},
		"deletes Rook's":                         {do: remove(rooks, client.Preconditions{UID: &rooks.UID})},
		"lets one go":                            {do: free(going)},
		"takes one finalizer":                    {do: operations(going, `[{"op":"remove","path":"/metadata/finalizers/0"}]`)},
		"deletes another driver's":               {do: remove(others, client.Preconditions{UID: &others.UID}), refused: onlyRBD},
		"deletes whatever has the name":          {do: remove(attached), refused: "deletes only the very VolumeAttachment that it judged"},
		"takes the finalizers of one that stays": {do: free(attached), refused: onlyGoing},
		"gives a finalizer":                      {do: operations(going, `[{"op":"add","path":"/metadata/finalizers/-","value":"example.com/y"}]`), refused: "no new finalizers can be added"},
		"annotates one that goes":                {do: merge(going, `{"metadata":{"annotations":{"a":"b"}}}`), refused: onlyGoing},
		"labels one that stays":                  {do: merge(attached, `{"metadata":{"labels":{"a":"b"}}}`), refused: onlyGoing},
		"makes one":                              {do: create(attachment("restraint-new", "rbd.csi.ceph.com")), refused: "cannot create resource"},
	}))
}

func TestTheRemediatorWritesOnlyItsRecordOnVolumes(t *testing.T) {
	t.Parallel()
	pv := persistentVolume("restraint-pv", recorded)
	others := persistentVolume("restraint-other", nil)
	others.Spec.CSI.Driver = "other.example.com"
	made(t, pv, others)
	const onlyRecord = "the remediator changes nothing of a PersistentVolume but annotation rbd-rescue.io/clients"
	const record = `{"metadata":{"annotations":{"rbd-rescue.io/clients":"{}"}}}`
	try(t, remediators(map[string]attempt{
		"records":                            {do: merge(pv, record)},
		"records on another driver's volume": {do: merge(others, record), refused: "the remediator keeps records on RBD volumes only"},
		"annotates":                          {do: merge(pv, `{"metadata":{"annotations":{"a":"b"}}}`), refused: onlyRecord},
		"takes another annotation":           {do: merge(pv, `{"metadata":{"annotations":{"x":null}}}`), refused: onlyRecord},
		"labels":                             {do: merge(pv, `{"metadata":{"labels":{"a":"b"}}}`), refused: onlyRecord},
		"takes finalizers":                   {do: merge(pv, `{"metadata":{"finalizers":["example.com/x"]}}`), refused: onlyRecord},
		"has it deleted with its claim":      {do: merge(pv, `{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}`), refused: onlyRecord},
		"binds it to a claim":                {do: merge(pv, `{"spec":{"claimRef":{"namespace":"shop","name":"a"}}}`), refused: onlyRecord},
		"deletes it":                         {do: remove(pv), refused: "cannot delete resource"},
	}))
}

func TestTheRemediatorCannotSpeakForAPerson(t *testing.T) {
	t.Parallel()
	byHand := nodeFence("restraint-by-hand", func(nf *v1alpha1.NodeFence) {
		nf.Annotations = map[string]string{"rbd-rescue.io/lift": "boot", "a": "b"}
	})
	fresh := nodeFence("restraint-fresh", nil)
	made(t, byHand, fresh)
	automatic := func(change func(*v1alpha1.NodeFence)) write {
		return create(nodeFence("restraint-new", func(nf *v1alpha1.NodeFence) {
			nf.Spec.Automatic, nf.Spec.BootID, nf.Finalizers = true, "boot", []string{"rbd-rescue.io/fence"}
			change(nf)
		}))
	}
	const onlyAutomatic, noAnnotation = "the remediator makes only automatic NodeFences", "the remediator annotates no NodeFence"
	try(t, remediators(map[string]attempt{
		"makes an automatic one":      {do: automatic(func(*v1alpha1.NodeFence) {})},
		"makes one by hand":           {do: automatic(func(nf *v1alpha1.NodeFence) { nf.Spec.Automatic = false }), refused: onlyAutomatic},
		"names clients":               {do: automatic(func(nf *v1alpha1.NodeFence) { nf.Spec.Clients = []string{"10.0.0.1:0/0"} }), refused: onlyAutomatic},
		"makes one that is lifted":    {do: automatic(func(nf *v1alpha1.NodeFence) { nf.Annotations = map[string]string{"rbd-rescue.io/lift": "boot"} }), refused: noAnnotation},
		"says that a boot is over":    {do: merge(fresh, `{"metadata":{"annotations":{"rbd-rescue.io/lift":"boot"}}}`), refused: noAnnotation},
		"says it of another boot":     {do: merge(byHand, `{"metadata":{"annotations":{"rbd-rescue.io/lift":"boot-2"}}}`), refused: noAnnotation},
		"takes a person's word away":  {do: merge(byHand, `{"metadata":{"annotations":{"rbd-rescue.io/lift":null}}}`), refused: noAnnotation},
		"fills in what a person left": {do: merge(byHand, `{"spec":{"bootID":"boot"},"metadata":{"finalizers":["rbd-rescue.io/fence"]}}`)},
		"deletes one":                 {do: remove(fresh), refused: "cannot delete resource"},
	}))
}

func TestTheWebhookWritesOnlyItsCA(t *testing.T) {
	t.Parallel()
	mutating, validating := &admissionv1.MutatingWebhookConfiguration{}, &admissionv1.ValidatingWebhookConfiguration{}
	mutating.Name, validating.Name = "rbd-rescue-webhook", "rbd-rescue-webhook"
	secret := func(name string, kind corev1.SecretType) *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: ownNamespace, Name: name, Annotations: map[string]string{"kubernetes.io/service-account.name": "rbd-rescue-remediator"}},
			Type:       kind, Data: map[string][]byte{"tls.crt": {}, "tls.key": {}},
		}
	}
	const onlyBundle = "the webhook changes nothing of its configurations but each caBundle"
	attempts := map[string]attempt{ // its Secret itself it makes in TestTheWebhookWithItsOwnRights
		"has a token filled in": {do: create(secret("rbd-rescue-webhook-ca", corev1.SecretTypeServiceAccountToken)), refused: "its type is Opaque or kubernetes.io/tls"},
		"makes another Secret":  {do: create(secret("other", corev1.SecretTypeOpaque)), refused: "the webhook writes only the Secret of its CA"},
		"makes a Secret with a generated name": {do: func(ctx context.Context, c client.Client) error {
			s := secret("", corev1.SecretTypeOpaque)
			s.GenerateName = "rbd-rescue-webhook-ca"
			return c.Create(ctx, s)
		}, refused: "the webhook writes only the Secret of its CA"},
	}
	for kind, configuration := range map[string]client.Object{"mutating": mutating, "validating": validating} {
		change := func(format string, values ...any) write {
			name := map[string]string{"mutating": "pods.rbd-rescue.io", "validating": "namespaces.rbd-rescue.io"}[kind]
			return patch(configuration, types.StrategicMergePatchType, fmt.Sprintf(`{"webhooks":[{"name":"`+name+`",`+format+`}]}`, values...))
		}
		for what, a := range map[string]attempt{
			"has its caBundle":           {do: change(`"clientConfig":{"caBundle":%q}`, "Y2VydGlmaWNhdGU=")},
			"has another failure policy": {do: change(`"failurePolicy":"Fail"`), refused: onlyBundle},
			"has other rules":            {do: change(`"rules":[{"apiGroups":["*"],"apiVersions":["*"],"operations":["*"],"resources":["*"]}]`), refused: onlyBundle},
			"has no conditions":          {do: change(`"matchConditions":null`), refused: onlyBundle},
			"is called elsewhere":        {do: change(`"clientConfig":{"url":"https://example.com/"}`), refused: onlyBundle},
			"is called by a service":     {do: change(`"clientConfig":{"url":null,"service":{"namespace":"shop","name":"evil"}}`), refused: onlyBundle},
			"has no webhooks":            {do: merge(configuration, `{"webhooks":null}`), refused: onlyBundle},
			"is labelled":                {do: merge(configuration, `{"metadata":{"labels":{"a":"b"}}}`), refused: "the webhook changes no metadata of its configurations"},
			"is owned":                   {do: merge(configuration, `{"metadata":{"finalizers":["example.com/x"]}}`), refused: "the webhook changes no metadata of its configurations"},
			"is deleted":                 {do: remove(configuration), refused: "cannot delete resource"},
		} {
			attempts["its "+kind+" configuration "+what] = a
		}
	}
	try(t, by([]string{"webhook"}, attempts))
}

func persistentVolumeClaimSpec() corev1.PersistentVolumeClaimSpec {
	pv := persistentVolume("", nil)
	return corev1.PersistentVolumeClaimSpec{AccessModes: pv.Spec.AccessModes, Resources: corev1.VolumeResourceRequirements{Requests: pv.Spec.Capacity}}
}
