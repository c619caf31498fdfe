package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/kube"
)

const (
	namespaces = 500
	// clusterID is Rook's usual one.
	clusterID = "rook-ceph"
)

// made is when everything was made; long ago, so that nothing counts as new.
var made = metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))

// world says what a cluster of this size has: every object as large as those of real clusters are, with the annotations, the
// managedFields and the lists of images that make up most of them. The same numbers make the same objects.
type world struct{ nodes, claims, pods int }

func (w world) nodeName(i int) string { return fmt.Sprintf("worker-%04d.cluster.example.com", i) }

// Claim i is attached to node i modulo nodes, so that each node has as many; and pod i uses claim i, as long as there are claims.
func (w world) nodeOf(i int) int { return i % w.nodes }

// optedIn tells whether the namespace of claim i opted in: every second one did.
func (w world) optedIn(i int) bool { return i*namespaces/max(w.claims, w.pods)%2 == 0 }
func (w world) namespace(i int) string {
	return fmt.Sprintf("team-%03d", i*namespaces/max(w.claims, w.pods))
}
func (w world) claimName(i int) string  { return fmt.Sprintf("data-postgresql-%06d", i) }
func (w world) volumeName(i int) string { return "pvc-" + uuid("claim", i) }
func (w world) handle(i int) string {
	return "0001-0009-rook-ceph-0000000000000002-" + uuid("image", i)
}
func (w world) uniqueName(i int) string {
	return "kubernetes.io/csi/" + kube.Driver + "^" + w.handle(i)
}
func (w world) nodeIP(i int) string { return fmt.Sprintf("10.%d.%d.%d", 64+i/65536, i/256%256, i%256) }
func (w world) claimsOf(node int) (all []int) {
	for i := node; i < w.claims; i += w.nodes {
		all = append(all, i)
	}
	return all
}

func uuid(kind string, i int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s-%d", kind, i))
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

func meta(namespace, name, kind string, i int, managers ...metav1.ManagedFieldsEntry) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: types.UID(uuid(kind, i)), CreationTimestamp: made, Generation: 1, ManagedFields: managers,
	}
}

// managedBy is an entry of managedFields that owns fields, each given as a path of names.
func managedBy(name, subresource string, fields ...string) metav1.ManagedFieldsEntry {
	tree := map[string]any{}
	for _, field := range fields {
		at := tree
		for step := range strings.SplitSeq(field, " ") {
			next, ok := at[step].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[step] = next
			}
			at = next
		}
	}
	text, err := json.Marshal(tree)
	if err != nil {
		panic(err) // maps of strings
	}
	return metav1.ManagedFieldsEntry{
		Manager: name, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &made,
		FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(string(text)), Subresource: subresource,
	}
}

func under(prefix string, names ...string) []string {
	for i := range names {
		names[i] = prefix + " f:" + names[i]
	}
	return names
}

func (w world) makeNamespace(i int) *corev1.Namespace {
	name := fmt.Sprintf("team-%03d", i)
	ns := &corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: meta("", name, "namespace", i, managedBy("kubectl-client-side-apply", "", "f:metadata f:annotations", "f:metadata f:labels")),
		Spec:       corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}},
		Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
	}
	ns.Labels = map[string]string{corev1.LabelMetadataName: name, "team": name, "pod-security.kubernetes.io/enforce": "privileged"}
	ns.Annotations = map[string]string{"example.com/owner": "team-" + name + "@example.com", "example.com/cost-centre": "4711"}
	if i%2 == 0 {
		ns.Annotations[v1alpha1.AnnotationMode] = string(v1alpha1.ModeRescue)
	}
	return ns
}

func (w world) makeServiceAccount(i int) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: meta(fmt.Sprintf("team-%03d", i), "default", "account", i),
	}
}

func (w world) makeNode(i int) *corev1.Node {
	name := w.nodeName(i)
	labels := map[string]string{
		corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64", "beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
		corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", i%3), corev1.LabelTopologyRegion: "region-1", corev1.LabelInstanceTypeStable: "m5.4xlarge",
		"node.kubernetes.io/pool": "general", "topology.rook.io/rack": fmt.Sprintf("rack-%d", i%40),
	}
	annotations := map[string]string{
		"csi.volume.kubernetes.io/nodeid":                        `{"` + kube.Driver + `":"` + name + `","cephfs.csi.ceph.com":"` + name + `"}`,
		"volumes.kubernetes.io/controller-managed-attach-detach": "true", "node.alpha.kubernetes.io/ttl": "0",
		"projectcalico.org/IPv4Address": w.nodeIP(i) + "/16", "projectcalico.org/IPv4IPIPTunnelAddr": "192.168.0.1",
	}
	var owned []string
	for label := range labels {
		owned = append(owned, "f:metadata f:labels f:"+label)
	}
	for annotation := range annotations {
		owned = append(owned, "f:metadata f:annotations f:"+annotation)
	}
	node := &corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: meta("", name, "node", i, managedBy("kubelet", "", owned...), managedBy("kubelet", "status",
			append(under("f:status", "allocatable f:memory", "allocatable f:cpu", "images", "nodeInfo f:bootID", "volumesInUse", "volumesAttached"),
				under(`f:status f:conditions k:{"type":"Ready"}`, "lastHeartbeatTime", "lastTransitionTime", "message", "reason", "status")...)...),
			managedBy("kube-controller-manager", "", "f:spec f:podCIDR", "f:spec f:podCIDRs", "f:metadata f:annotations f:node.alpha.kubernetes.io/ttl")),
		Spec: corev1.NodeSpec{PodCIDR: "192.168.0.0/24", PodCIDRs: []string{"192.168.0.0/24"}, ProviderID: "metal://" + uuid("machine", i)},
		Status: corev1.NodeStatus{
			Capacity: amounts("16", "64Gi"), Allocatable: amounts("15800m", "62Gi"),
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: w.nodeIP(i)}, {Type: corev1.NodeHostName, Address: name}},
			NodeInfo: corev1.NodeSystemInfo{
				MachineID: strings.ReplaceAll(uuid("machine", i), "-", ""), SystemUUID: uuid("system", i), BootID: uuid("boot", i), KernelVersion: "6.1.0-37-amd64",
				OSImage: "Debian GNU/Linux 12 (bookworm)", ContainerRuntimeVersion: "containerd://2.1.4", KubeletVersion: "v1.37.2", OperatingSystem: "linux", Architecture: "amd64",
			},
		},
	}
	node.Labels, node.Annotations = labels, annotations
	for _, condition := range []struct {
		kind            corev1.NodeConditionType
		status          corev1.ConditionStatus
		reason, message string
	}{
		{corev1.NodeMemoryPressure, "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"},
		{corev1.NodeDiskPressure, "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"},
		{corev1.NodePIDPressure, "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"},
		{corev1.NodeNetworkUnavailable, "False", "CalicoIsUp", "Calico is running on this node"},
		{corev1.NodeReady, "True", "KubeletReady", "kubelet is posting ready status"},
	} {
		node.Status.Conditions = append(node.Status.Conditions, corev1.NodeCondition{
			Type: condition.kind, Status: condition.status, Reason: condition.reason, Message: condition.message, LastHeartbeatTime: made, LastTransitionTime: made,
		})
	}
	for image := range 50 { // as many as a kubelet reports
		repository := fmt.Sprintf("registry.example.com/platform/service-%03d", (i+image)%400)
		node.Status.Images = append(node.Status.Images, corev1.ContainerImage{
			Names:     []string{repository + "@sha256:" + strings.Repeat(uuid("digest", image)[:8], 8), repository + ":v1.42." + fmt.Sprint(image)},
			SizeBytes: 123456789,
		})
	}
	for _, claim := range w.claimsOf(i) {
		unique := corev1.UniqueVolumeName(w.uniqueName(claim))
		node.Status.VolumesInUse = append(node.Status.VolumesInUse, unique)
		node.Status.VolumesAttached = append(node.Status.VolumesAttached, corev1.AttachedVolume{Name: unique})
	}
	return node
}

func amounts(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory), corev1.ResourcePods: resource.MustParse("110"),
		corev1.ResourceEphemeralStorage: resource.MustParse("400Gi"),
	}
}

// makeVolume is a PersistentVolume as ceph-csi's provisioner makes it, bound, attached, and with rbd-rescue's record on it.
func (w world) makeVolume(i int) *corev1.PersistentVolume {
	node := w.nodeOf(i)
	record, err := json.Marshal(v1alpha1.ClientRecord{w.nodeName(node): {
		NodeUID: types.UID(uuid("node", node)), BootID: uuid("boot", node), MachineID: strings.ReplaceAll(uuid("machine", node), "-", ""),
		Addresses: []string{w.nodeIP(node)}, Clients: []string{w.nodeIP(node) + ":0/1929330598"}, Pods: []types.UID{types.UID(uuid("pod", i))},
	}})
	if err != nil {
		panic(err) // strings
	}
	pv := &corev1.PersistentVolume{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolume"},
		ObjectMeta: meta("", w.volumeName(i), "volume", i,
			managedBy("csi-provisioner", "", append(under("f:metadata f:annotations", "pv.kubernetes.io/provisioned-by", "volume.kubernetes.io/provisioner-deletion-secret-name",
				"volume.kubernetes.io/provisioner-deletion-secret-namespace"), under("f:spec", "accessModes", "capacity f:storage", "claimRef f:apiVersion", "claimRef f:kind",
				"claimRef f:name", "claimRef f:namespace", "claimRef f:resourceVersion", "claimRef f:uid", "csi f:driver", "csi f:fsType", "csi f:nodeStageSecretRef",
				"csi f:controllerExpandSecretRef", "csi f:volumeAttributes f:clusterID", "csi f:volumeAttributes f:imageName", "csi f:volumeAttributes f:pool",
				"csi f:volumeHandle", "persistentVolumeReclaimPolicy", "storageClassName", "volumeMode")...)...),
			managedBy("csi-attacher", "", `f:metadata f:finalizers v:"external-attacher/rbd-csi-ceph-com"`),
			managedBy("kube-controller-manager", "status", "f:status f:phase", "f:status f:lastPhaseTransitionTime"),
			managedBy("rbd-rescue", "", "f:metadata f:annotations f:rbd-rescue.io/clients")),
		Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("20Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete, StorageClassName: "rook-ceph-block", VolumeMode: ptr.To(corev1.PersistentVolumeFilesystem),
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: w.namespace(i), Name: w.claimName(i), UID: types.UID(uuid("claim", i)), ResourceVersion: "123456789",
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: kube.Driver, VolumeHandle: w.handle(i), FSType: "ext4",
				VolumeAttributes: map[string]string{
					"clusterID": clusterID, "pool": "replicapool", "imageName": "csi-vol-" + uuid("image", i), "imageFeatures": "layering,exclusive-lock,object-map,fast-diff",
					"journalPool": "replicapool", "imageFormat": "2", "storage.kubernetes.io/csiProvisionerIdentity": "1764000000000-1234-" + kube.Driver,
				},
				NodeStageSecretRef:        &corev1.SecretReference{Namespace: "rook-ceph", Name: "rook-csi-rbd-node"},
				ControllerExpandSecretRef: &corev1.SecretReference{Namespace: "rook-ceph", Name: "rook-csi-rbd-provisioner"},
			}},
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeBound, LastPhaseTransitionTime: &made},
	}
	pv.Finalizers = []string{"external-provisioner.volume.kubernetes.io/finalizer", "kubernetes.io/pv-protection", "external-attacher/rbd-csi-ceph-com"}
	pv.Annotations = map[string]string{ //nolint:gosec // names of Secrets
		"pv.kubernetes.io/provisioned-by": kube.Driver, "volume.kubernetes.io/provisioner-deletion-secret-name": "rook-csi-rbd-provisioner",
		"volume.kubernetes.io/provisioner-deletion-secret-namespace": "rook-ceph", v1alpha1.AnnotationClients: string(record),
	}
	return pv
}

func (w world) makeClaim(i int) *corev1.PersistentVolumeClaim {
	pvc := &corev1.PersistentVolumeClaim{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: meta(w.namespace(i), w.claimName(i), "claim", i,
			managedBy("kube-controller-manager", "", append(under("f:metadata f:annotations", "pv.kubernetes.io/bind-completed", "pv.kubernetes.io/bound-by-controller",
				"volume.kubernetes.io/storage-provisioner"), under("f:spec", "accessModes", "resources f:requests f:storage", "volumeMode", "volumeName")...)...),
			managedBy("kube-controller-manager", "status", "f:status f:accessModes", "f:status f:capacity f:storage", "f:status f:phase")),
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: new("rook-ceph-block"), VolumeMode: ptr.To(corev1.PersistentVolumeFilesystem),
			VolumeName: w.volumeName(i), Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("20Gi")}},
		},
		Status: corev1.PersistentVolumeClaimStatus{
			Phase: corev1.ClaimBound, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("20Gi")},
		},
	}
	pvc.Finalizers = []string{"kubernetes.io/pvc-protection"}
	pvc.Labels = labels(i)
	pvc.Annotations = map[string]string{
		"pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes",
		"volume.beta.kubernetes.io/storage-provisioner": kube.Driver, "volume.kubernetes.io/storage-provisioner": kube.Driver,
	}
	return pvc
}

func labels(i int) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name": "postgresql", "app.kubernetes.io/instance": fmt.Sprintf("postgresql-%06d", i), "app.kubernetes.io/component": "primary",
		"app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "postgresql-16.4.1",
	}
}

func (w world) makeAttachment(i int) *storagev1.VolumeAttachment {
	node, volume := w.nodeName(w.nodeOf(i)), w.volumeName(i)
	sum := sha256.Sum256([]byte(w.handle(i) + kube.Driver + node))
	va := &storagev1.VolumeAttachment{
		TypeMeta: metav1.TypeMeta{APIVersion: "storage.k8s.io/v1", Kind: "VolumeAttachment"},
		ObjectMeta: meta("", fmt.Sprintf("csi-%x", sum), "attachment", i,
			managedBy("kube-controller-manager", "", "f:spec f:attacher", "f:spec f:nodeName", "f:spec f:source f:persistentVolumeName"),
			managedBy("csi-attacher", "", "f:metadata f:annotations f:csi.alpha.kubernetes.io/node-id", `f:metadata f:finalizers v:"external-attacher/rbd-csi-ceph-com"`),
			managedBy("csi-attacher", "status", "f:status f:attached")),
		Spec:   storagev1.VolumeAttachmentSpec{Attacher: kube.Driver, NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &volume}},
		Status: storagev1.VolumeAttachmentStatus{Attached: true},
	}
	va.Finalizers = []string{"external-attacher/rbd-csi-ceph-com"}
	va.Annotations = map[string]string{"csi.alpha.kubernetes.io/node-id": node}
	return va
}

// makePod is a running pod of a StatefulSet that Helm has installed. Those beyond the claims have no claim.
func (w world) makePod(i int) *corev1.Pod {
	pod := w.newPod(i)
	pod.UID, pod.CreationTimestamp = types.UID(uuid("pod", i)), made
	pod.Spec.NodeName = w.nodeName(w.nodeOf(i))
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, HostIP: w.nodeIP(w.nodeOf(i)), HostIPs: []corev1.HostIP{{IP: w.nodeIP(w.nodeOf(i))}}, PodIP: "192.168.0.7", PodIPs: []corev1.PodIP{{IP: "192.168.0.7"}},
		StartTime: &made, QOSClass: corev1.PodQOSBurstable,
	}
	for _, kind := range []corev1.PodConditionType{"PodReadyToStartContainers", corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: kind, Status: "True", LastTransitionTime: made})
	}
	for _, container := range pod.Spec.Containers {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: container.Name, Image: container.Image, ImageID: container.Image + "@sha256:" + strings.Repeat("0123456789abcdef", 4), Ready: true, Started: new(true),
			ContainerID: "containerd://" + strings.Repeat("fedcba9876543210", 4), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: made}},
		})
	}
	return pod
}

// newPod is that pod as its controller makes it.
func (w world) newPod(i int) *corev1.Pod {
	set := fmt.Sprintf("postgresql-%06d", i)
	pod := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.namespace(i), Name: set + "-0", GenerateName: set + "-", Labels: labels(i),
			Annotations: map[string]string{"checksum/configuration": strings.Repeat("0123456789abcdef", 4), "prometheus.io/scrape": "true", "prometheus.io/port": "9187"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "StatefulSet", Name: set, UID: types.UID(uuid("set", i)), Controller: new(true), BlockOwnerDeletion: new(true),
			}},
		},
		Spec: corev1.PodSpec{
			ServiceAccountName: "default", Hostname: set + "-0", Subdomain: set, RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst,
			SchedulerName: corev1.DefaultSchedulerName, TerminationGracePeriodSeconds: ptr.To[int64](30), EnableServiceLinks: new(true), SecurityContext: &corev1.PodSecurityContext{FSGroup: ptr.To[int64](1001)},
			Tolerations: []corev1.Toleration{
				{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](300)},
				{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](300)},
			},
			Volumes: []corev1.Volume{
				{Name: "configuration", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
					LocalObjectReference: corev1.LocalObjectReference{Name: set}, DefaultMode: ptr.To[int32](420),
				}}},
				{Name: "kube-api-access", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultMode: ptr.To[int32](420), Sources: []corev1.VolumeProjection{
					{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: ptr.To[int64](3607), Path: "token"}},
					{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}, Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
				}}}},
			},
		},
	}
	if i < w.claims {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: w.claimName(i)},
		}})
	}
	owned := []string{"f:metadata f:ownerReferences", "f:metadata f:generateName"}
	for _, name := range []string{"postgresql", "metrics"} {
		container := corev1.Container{
			Name: name, Image: "registry.example.com/platform/" + name + ":16.4.0-debian-12-r0", ImagePullPolicy: corev1.PullIfNotPresent,
			Resources:                corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m"), corev1.ResourceMemory: resource.MustParse("256Mi")}},
			Ports:                    []corev1.ContainerPort{{Name: "tcp", ContainerPort: 5432, Protocol: corev1.ProtocolTCP}},
			LivenessProbe:            probe(),
			ReadinessProbe:           probe(),
			SecurityContext:          &corev1.SecurityContext{RunAsUser: ptr.To[int64](1001), RunAsNonRoot: new(true), AllowPrivilegeEscalation: new(false)},
			TerminationMessagePath:   "/dev/termination-log",
			TerminationMessagePolicy: corev1.TerminationMessageReadFile,
			VolumeMounts:             []corev1.VolumeMount{{Name: "configuration", MountPath: "/etc/configuration"}, {Name: "kube-api-access", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}},
		}
		for variable := range 15 {
			key := fmt.Sprintf("SETTING_NUMBER_%02d", variable)
			container.Env = append(container.Env, corev1.EnvVar{Name: key, Value: "a value of the usual length"})
			owned = append(owned, `f:spec f:containers k:{"name":"`+name+`"} f:env k:{"name":"`+key+`"} f:value`)
		}
		owned = append(owned, under(`f:spec f:containers k:{"name":"`+name+`"}`, "image", "imagePullPolicy", "livenessProbe f:exec f:command", "livenessProbe f:periodSeconds",
			"readinessProbe f:exec f:command", "resources f:requests f:cpu", "resources f:requests f:memory", "securityContext f:runAsUser", "volumeMounts")...)
		pod.Spec.Containers = append(pod.Spec.Containers, container)
	}
	pod.ManagedFields = []metav1.ManagedFieldsEntry{
		managedBy("kube-controller-manager", "", owned...),
		managedBy("kubelet", "status", under("f:status", "conditions", "containerStatuses", "hostIP", "phase", "podIP", "startTime")...),
	}
	return pod
}

func probe() *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:        corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/bin/sh", "-c", "exec pg_isready -U postgres -h 127.0.0.1 -p 5432"}}},
		InitialDelaySeconds: 30, TimeoutSeconds: 5, PeriodSeconds: 10, SuccessThreshold: 1, FailureThreshold: 6,
	}
}
