package main

const (
	plan    = "remediator/plan/"
	rescuer = "remediator/rescuer/"
)

var mutations = []mutation{
	{
		"S1", "an OSD that has not confirmed does not matter", plan + "verify.go",
		"case cluster.Barrier < cluster.Map.Epoch:", "case cluster.Map.Epoch == 0:",
	},
	{
		"S1", "an entry that is about to run out is good enough", plan + "verify.go",
		"case !listed(cluster, address, s.Now.Add(expiryMargin)):", "case !listed(cluster, address, s.Now):",
	},
	{
		"S1", "a volume is released without the proof of this look", plan + "release.go",
		"|| !proof.covers(v, entry.Clients) ||", "||",
	},
	{
		"S1", "a volume without a client counts as proven", plan + "verify.go",
		"return len(addresses) > 0 &&", "return",
	},
	{
		"S1", "a volume whose pools are not known counts as proven", plan + "verify.go",
		"&& len(v.Pools) > 0\n", "\n",
	},
	{
		"S1", "what one pool has confirmed counts for another", plan + "verify.go",
		"if !p.pools[v.ClusterID][pool] {", `if pool == "" || len(p.pools[v.ClusterID]) == 0 {`,
	},
	{
		"S1", "a pool that has confirmed an older map is good enough", plan + "verify.go",
		"if epoch > 0 && epoch >= cluster.Map.Epoch {", "if epoch > 0 {",
	},
	{
		"S1", "a volume that the fenced boot has again is not judged anew", plan + "anew.go",
		"return attachmentTo(s.NodeName, v) != nil || len", "return false && len",
	},
	{
		"S1", "the clients that were settled count for a new mapping", plan + "clients.go",
		"if HeldAnew(s, v) {", "if false {",
	},
	{
		"S1", "a new pod of the fenced boot goes behind the old proof", plan + "release.go",
		"|| HeldAnew(s, v) ||", "||",
	},
	{
		"S1", "the record counts, whoever started since", plan + "clients.go",
		"return !slices.ContainsFunc(users,", "return true || !slices.ContainsFunc(users,",
	},
	{
		"S1", "the record counts, though no pod is left that it has looked at", plan + "clients.go",
		"|| len(users) == 0 {", "{",
	},
	{
		"S1", "the record of another boot counts", plan + "clients.go",
		"v.Record == nil || v.Record.BootID != s.Fence.Spec.BootID", "v.Record == nil",
	},
	{
		"S1", "a client of the boot before is recorded for this one", "remediator/recorder/record.go",
		"|| slices.Contains(entry.Before, text) {", `|| slices.Contains(entry.Before, "nothing") {`,
	},
	{
		"S1", "an address on record is taken for the node's host, whoever's it is", plan + "host.go",
		"if !known && s.NodeAddressed[", "if !known && len(hosts.addresses) == 0 && s.NodeAddressed[",
	},
	{
		"S2", "watchers of a node that is not Ready are recorded", "remediator/recorder/record.go",
		"if !volume.Ready(node) {", "if node.Name == \"\" {",
	},
	{
		"S2", "a client that another node had is recorded for this one", "remediator/recorder/record.go",
		"slices.Contains(slices.Concat(clients.Clients, clients.Before), address.String())", "slices.Contains(clients.Clients, address.String())",
	},
	{
		"S2", "a client on the host of a Ceph daemon is recorded", "remediator/recorder/record.go",
		"case s.daemons[address.IP].OpensImages() && s.staged[node.Name] != address.IP:", "case false:",
	},
	{
		"S3", "a boot is noted only with its first client", "remediator/recorder/record.go",
		"		if known {\n", "		if known && len(entry.Clients) > 0 {\n",
	},
	{
		"S2", "another node's recorded client may be fenced", plan + "clients.go",
		`if other := s.OtherClients[address]; other != "" {`, `if other := s.OtherClients[address]; other == "nobody" {`,
	},
	{
		"S2", "another node's boot is over, as a cache says that is old", "remediator/observe/boots.go",
		"{b.fromCache, b.fromAPI} {", "{b.fromCache} {",
	},
	{
		"S2", "nobody looks who else is at an address that was settled before", "remediator/observe/others.go",
		"		add(entry.Clients) ", "		_ = entry.Clients ",
	},
	{
		"S2", "another node's address may be fenced", plan + "clients.go",
		`if other := s.OtherNodes[address.IP]; other != "" &&`, `if other := s.OtherNodes[address.IP]; other == "nobody" &&`,
	},
	{
		"S2", "a watcher that is nobody's is taken for the node's", plan + "clients.go",
		"case !s.ownsAlone(address.IP):", "case false:",
	},
	{
		"S2", "a client on the host of a Ceph daemon may be fenced", plan + "clients.go",
		"daemon.OpensImages() && v.Use.Staged", "daemon == \"nobody\" && v.Use.Staged",
	},
	{
		"S2", "the client of a pod on another node is taken for the node's", plan + "clients.go",
		`if other == "" || named || isHost(address) {`, `if other != "nobody" {`,
	},
	{
		"S2", "the host of a pod on another node may be fenced", plan + "host.go",
		`case s.OtherPods[ip] != "":`, "case false:",
	},
	{
		"S2", "the client of a pod on another node is recorded", "remediator/recorder/controller.go",
		"s.others[ip] = node", "_ = node",
	},
	{
		"S2", "the host of a Ceph daemon may be fenced", plan + "host.go",
		`case cluster.Daemons[ip] != "":`, "case false:",
	},
	{
		"S2", "a host on which another node's clients were seen may be fenced", plan + "host.go",
		`case s.OtherHosts[ip] != "":`, "case false:",
	},
	{
		"S2", "a host that another node may use may be fenced", plan + "host.go",
		`case !named && s.mayBeAt(v.ClusterID, ip) != "":`, "case false:",
	},
	{
		"S2", "rbd-rescue's own host may be fenced", plan + "host.go",
		"case slices.ContainsFunc(cluster.Own, func(a ceph.Address) bool { return a.IP == ip }):", "case false:",
	},
	{
		"S2", "a node that came back is fenced all the same", plan + "renew.go",
		"first := acts && wantedBy(status, c)", "first := wantedBy(status, c)",
	},
	{
		"S2", "what the node was when the decision was taken is good enough", rescuer + "execute.go",
		"return failed == failedBefore &&", "return true || failed == failedBefore &&",
	},
	{
		"S2", "rbd-rescue's own client may be put on the blocklist", "ceph/blocklist.go",
		"case slices.Contains(own, client) ||", "case false && slices.Contains(own, client) ||",
	},
	{
		"S3", "a fence is lifted on the boot that it cuts off", plan + "next.go",
		"(state == nodeRebooted ||", "(state == nodeRebooted || state == nodeReturned ||",
	},
	{
		"S3", "a fence is lifted by the word of a node that has looked for other clients", plan + "cleared.go",
		"if !slices.Contains(proof.Clients, c.Address) {", "if false && !slices.Contains(proof.Clients, c.Address) {",
	},
	{
		"S3", "a fence is lifted by the word of another boot", plan + "cleared.go",
		"if proof.BootID != s.Fence.Spec.BootID ||", "if",
	},
	{
		"S3", "a mapping that is left does not count", plan + "cleared.go",
		"if len(proof.Left) > 0 {", "if false {",
	},
	{
		"S3", "what does not say what is left says that nothing is", "api/v1alpha1/cleared.go",
		`if c.BootID == "" || c.Left == nil {`, `if c.BootID == "" {`,
	},
	{
		"S3", "a mapping whose client cannot be told does not count", "node/fenced.go",
		"if err != nil {\n\t\treturn true", "if err != nil {\n\t\treturn false",
	},
	{
		"S3", "any folder passes for sysfs", "node/sysfs.go",
		"if stat.Type != unix.SYSFS_MAGIC {", "if false {",
	},
	{
		"S3", "a container's processes pass for the machine's", "node/process.go",
		`if name, err := readLine(filepath.Join(proc, "2", "comm")); err != nil || name != "kthreadd" {`, "if false {",
	},
	{
		"S3", "a fence is lifted for another machine of the same name", plan + "node.go",
		"case volume.Ready(s.Node) && !sameMachine(s):", "case false:",
	},
	{
		"S3", "an override counts for any boot", plan + "lift.go",
		"nf.Annotations[v1alpha1.AnnotationLift] == nf.Spec.BootID", `nf.Annotations[v1alpha1.AnnotationLift] != ""`,
	},
	{
		"S3", "entries that another incident needs are removed", rescuer + "execute.go",
		`return plan.NeededBy(others, address.String()) != ""`, "return false",
	},
	{
		"S3", "what the cache says of the node is good enough", "remediator/observe/observer.go",
		"o.kubernetes(ctx, nf.Spec.NodeName, nf, o.Live)", "o.kubernetes(ctx, nf.Spec.NodeName, nf, o.Reader)",
	},
	{
		"S3", "a deleted NodeFence is gone at once", plan + "next.go",
		"case !s.Fence.Active():\n", "case !s.Fence.Active() || s.Fence.DeletionTimestamp != nil:\n",
	},
	{
		"S4", "an entry that stands is asked for, as if that changed its end", plan + "renew.go",
		"|| stands(cluster, address) {", "|| listed(cluster, address, s.Now.Add(expiryMargin)) {",
	},
	{
		"S1", "a moved volume whose new node has it open is given up", plan + "clients.go",
		"byRight := v.Shared || moved(s, v)", "byRight := v.Shared",
	},
	{
		"S1", "a moved volume of a node that is gone is forgotten", plan + "demand.go",
		"(v.Shared || s.Node == nil && moved(s, v)) &&", "v.Shared &&",
	},
	{
		"S4", "an entry that ends within a month is a proof", plan + "verify.go",
		"const expiryMargin = 365 * 24 * time.Hour", "const expiryMargin = 30 * 24 * time.Hour",
	},
	{
		"S3", "an entry that was there before is taken for the incident's own", plan + "foreign.go",
		"return stands(s.Clusters[clusterID], address) &&", "return false && stands(s.Clusters[clusterID], address) &&",
	},
	{
		"S3", "a lift removes an entry that is somebody else's", plan + "lift.go",
		"err == nil && !c.Foreign && d.isListed(*c)", "err == nil && d.isListed(*c)",
	},
	{
		"S9", "an entry that was written again stays somebody else's", plan + "fence.go",
		"c.Foreign = c.Foreign && foreign(", "_ = c.Foreign && foreign(",
	},
	{
		"S6", "a claim that the cache does not have counts as fenced", "remediator/observe/observer.go",
		`return "not known: no such claim is there, or not yet", nil`, `return "", nil`,
	},
	{
		"S6", "a claim that is not bound counts as fenced", "remediator/observe/observer.go",
		`return "not known: the claim is bound to no PersistentVolume, or not yet", nil`, `return "", nil`,
	},
	{
		"S7", "nodes that are gone count only once the cache has heard of it", rescuer + "execute.go",
		"c.Observer.GoneBeside(ctx, nodes)", "c.Observer.GoneNodes(ctx)",
	},
	{
		"S4", "an entry is given up whose volume was released before all pools had confirmed", plan + "progress.go",
		"\t\td.keep(v, entry.Clients)\n", "",
	},
	{
		"S4", "the first proof does not make an entry stay", plan + "fence.go",
		"c.Epoch, c.Kept = int64(epoch), true", "c.Epoch = int64(epoch)",
	},
	{
		"S2", "an entry is written though no volume needs it any more", plan + "renew.go",
		"first := acts && wantedBy(status, c)", "first := acts",
	},
	{
		"S2", "an incident ends while an entry may still arrive", plan + "renew.go",
		"return doubtLeft(c.AskedAt, now)", "return 0",
	},
	{
		"S2", "an rbd-mirror daemon is recorded as the node's client", "remediator/recorder/record.go",
		"case s.mirrors[address.IP] || s.mayBeMirrors:", "case false:",
	},
	{
		"S2", "an rbd-mirror daemon on record is fenced", plan + "clients.go",
		"if !named && cluster.Mirrors[address.IP] && !slices", "if false && !slices",
	},
	{
		"S1", "an rbd-mirror daemon's watch makes the node's clients known", plan + "clients.go",
		"case mirror:", "case mirror && false:",
	},
	{
		"S1", "a client that is a process is taken for the only one", plan + "clients.go",
		"|| known && !v.Userspace, r", "|| known, r",
	},
	{
		"S1", "a node that is gone had no other boot than the record has", plan + "clients.go",
		"known = live || s.Node != nil && (", "known = live || (",
	},
	{
		"S1", "what was settled counts for a pod that came since", plan + "clients.go",
		"|| len(settled) > 0 && !mayHaveRemapped(s, v))", "|| len(settled) > 0)",
	},
	{
		"S9", "two incidents of one node leave the entry to each other", plan + "lift.go",
		"if rebooted || nf.Status.Times.OverAt != nil || overridden(nf) {", "if rebooted && false {",
	},
	{
		"S2", "what the cache says of a node is good enough for a record", "remediator/recorder/controller.go",
		"c.Observer.AsNow(ctx, node); !same || err != nil", "c.Observer.AsNow(ctx, node); same && err != nil",
	},
	{
		"S2", "what the cache says of who has a volume is good enough for a record", "remediator/recorder/controller.go",
		"if seen.excludes(record) {", "if false {",
	},
	{
		"S2", "a new boot that fails has the lift of the old one undone", plan + "next.go",
		"|| s.Fence.Status.Times.OverAt != nil || overridden", "|| overridden",
	},
	{
		"S2", "an address that another node has by now may be fenced", plan + "host.go",
		"return elsewhere && (isHost(address) || moved)", "return elsewhere && false && (isHost(address) || moved)",
	},
	{
		"S4", "an entry that may still be removed is a proof", plan + "verify.go",
		"case mayBeRemoved(", "case false && mayBeRemoved(",
	},
	{
		"S4", "Ceph is asked to remove an entry again and again", plan + "lift.go",
		"&& removalInDoubt(*c, d.s.Now) == 0 {", "{",
	},
	{
		"S9", "a boot that is over keeps a gate", plan + "gate.go",
		"return isMachine(node, nf.Spec)", "return volume.Ready(node) && isMachine(node, nf.Spec)",
	},
	{
		"S4", "a renewal waits for a first entry", rescuer + "execute.go",
		"add = plan.Renewals(nf.Status, add)", "add = plan.Renewals(v1alpha1.NodeFenceStatus{}, add)",
	},
	{
		"S4", "entries live for an hour", plan + "renew.go",
		"const entryTTL = 10 * 365 * 24 * time.Hour", "const entryTTL = time.Hour",
	},
	{
		"S5", "a pod's label makes its node a failed one", plan + "failure.go",
		"if failure, failed := volume.Failed(s.Node); failed {",
		`if failure, failed := volume.Failed(s.Node); failed || len(s.Pods) > 0 && s.Pods[0].Labels["rbd-rescue.io/held"] != "" {`,
	},
	{
		"S6", "every namespace has opted in", plan + "demand.go",
		"return s.Policies[", "return true || s.Policies[",
	},
	{
		"S6", "a pod may go whatever else it writes to", plan + "judge.go",
		`storage != "" && !policy.UnfencedStorage`, `storage == "nothing" && !policy.UnfencedStorage`,
	},
	{
		"S6", "a bare pod may go", plan + "judge.go",
		"metav1.GetControllerOf(pod) == nil && !policy.BarePods", `metav1.GetControllerOf(pod) == nil && pod.Name == "" && !policy.BarePods`,
	},
	{
		"S6", "a pod may go though one of its volumes stays", plan + "release.go",
		"if !released[v.Name] {", `if v.Name == "" {`,
	},
	{
		"S7", "the breaker does not open", plan + "breaker.go",
		"> max(1, limit)", "> max(1, limit, h.Nodes)",
	},
	{
		"S7", "nodes that are not Ready do not count", plan + "breaker.go",
		"h.Failed + h.Returned + h.NotReady", "h.Failed + h.Returned",
	},
	{
		"S7", "a node that is not Ready is fenced beside one that has failed", plan + "breaker.go",
		"&& !notReady(node) {", "{",
	},
	{
		"S7", "a fence begins while the breaker is open", plan + "fence.go",
		"if !began && d.s.Fence.Spec.Automatic && notNow(d.s) != nil {", "if false {",
	},
	{
		"S7", "nodes that have just come back do not count", plan + "breaker.go",
		"h.Failed + h.Returned + h.NotReady", "h.Failed + h.NotReady",
	},
	{
		"S7", "what the cache says of all nodes is good enough", rescuer + "execute.go",
		"return !plan.BreakerOpen(", "return true || !plan.BreakerOpen(",
	},
	{
		"S1", "a gate opens before the fence is proven", plan + "gate.go",
		"c.Address == address && c.Epoch > 0", "c.Address == address && c.Epoch >= 0",
	},
	{
		"S1", "a gate opens while a failed node holds the volume", plan + "gate.go",
		"case !volume.Ready(node):", "case !volume.Ready(node) && node.Name == \"\":",
	},
	{
		"S1", "a node that came back had no other pod", plan + "anew.go",
		"|| !readyTurned(s.Node).Equal(entry.ReadyTurnedAt)", "",
	},
	{
		"S1", "a node that is Ready had no other pod", plan + "anew.go",
		"return s.Node != nil && volume.Ready(s.Node) ||", "return s.Node != nil && volume.Ready(s.Node) && false ||",
	},
	{
		"S1", "another attachment is taken for the old one", plan + "anew.go",
		"return va != nil && va.UID != entry.Attachment ||", "return va != nil && false ||",
	},
	{
		"S1", "a gate opens when Kubernetes forgets what a node holds", plan + "gate.go",
		"listed && nf.Active() && !letGo(", "listed && nf.Active() && nf.Name == \"\" && !letGo(",
	},
	{
		"S1", "a gate opens by a cache that has not heard of the failure", "remediator/flagger/gate.go",
		"[]client.Reader{c.Client, c.Live}", "[]client.Reader{c.Client}",
	},
	{
		"S1", "a gate opens by a proof that is over", "remediator/flagger/gate.go",
		"missing != \"\" {", "missing == \"never\" {",
	},
	{
		"S1", "a volume that Kubernetes has forgotten is no longer held", plan + "demand.go",
		"moved(s, v)) && listedAsHeld(s.Fence, v)", "moved(s, v)) && v.Name == \"\" && listedAsHeld(s.Fence, v)",
	},
	{
		"S9", "a gate stays when the namespace opts out", plan + "gate.go",
		"if policy.Mode != v1alpha1.ModeRescue {", "if false {",
	},
	{
		"S9", "a gate stays when the node is Ready again", plan + "gate.go",
		"case !volume.Ready(node):", "default:",
	},
	{
		"S9", "a gate stays when a person has said that the boot is over", plan + "gate.go",
		"case h.Over:", "case h.Over && h.NodeName == \"\":",
	},
	{
		"S9", "a gate never opens", "remediator/flagger/controller.go",
		"if !plan.Gated(pod) {", "if !plan.Gated(pod) || pod.Name != \"\" {",
	},
	{
		"S9", "a gate that stays is never looked at again", "remediator/flagger/controller.go",
		"result.RequeueAfter = gateRecheck", "_ = gateRecheck",
	},
	{
		"S8", "an entry is written that the status does not know", plan + "fence.go",
		"for _, step := range entriesToWrite(d.s, d.status, state.acts()) {",
		"for _, step := range append(entriesToWrite(d.s, d.status, state.acts()), AddToBlocklist{ClusterID: \"c1\", Clients: []ceph.Address{ceph.MustParseAddress(\"10.9.9.9:0/9\")}, TTL: entryTTL}) {",
	},
	{
		"S8", "whichever pod has the name is deleted", rescuer + "execute.go",
		"client.Preconditions{UID: &s.UID, ResourceVersion: new(s.ResourceVersion)}}", "client.Preconditions{}}",
	},
	{
		"S8", "two leaders make two incidents of one failure", plan + "detect.go",
		"since.UTC().Format(time.RFC3339)", "time.Now().Format(time.RFC3339Nano)",
	},
	{
		"snapshot", "a volume is released without the one that is required", plan + "safety_snapshot.go",
		"if policy != v1alpha1.SnapshotRequired {", "if true {",
	},
	{
		"snapshot", "one counts that was seen after the volume had left", plan + "safety_snapshot.go",
		"return v.Shared || entry.Attachment != \"\" && v.AttachedAfter == entry.Attachment", "return true",
	},
	{
		"snapshot", "one of another attachment counts", plan + "safety_snapshot.go",
		"seed := []string{string(nf.UID), string(entry.Attachment)}", "seed := []string{string(nf.UID)}",
	},
	{
		"snapshot", "one that was taken while fewer clients were cut off counts", plan + "safety_snapshot.go",
		"seed = append(seed, slices.Sorted(slices.Values(entry.Clients))...)", "seed = append(seed, \"\")",
	},
	{
		"snapshot", "one is taken though the API shows that the volume has left", rescuer + "safety_snapshot.go",
		"if uid != s.AttachmentUID {", "if uid != s.AttachmentUID && false {",
	},
	{
		"snapshot", "one that comes late is left", plan + "safety_snapshot.go",
		"			if !failed || slices.Contains(v.Use.Snapshots, name) ||", "			if false ||",
	},
	{
		"snapshot", "one is removed while its NodeFence is active", "remediator/retention/due.go",
		"case t.fence.Active():", "case false:",
	},
	{
		"snapshot", "a clock that jumps removes all", "remediator/retention/due.go",
		"if v.now.Sub(since) >= patience(v.settings) {", "if true {",
	},
	{
		"S1", "a record forgets a client that it sees, for those that it has seen", "remediator/recorder/record.go",
		"if surplus <= 0 || slices.Contains(seen, client) {", "if surplus <= 0 {",
	},
	{
		"S3", "a machineID alone tells a machine", plan + "node.go",
		" && spec.SystemUUID == info.SystemUUID", "",
	},
	{
		"S3", "a node speaks for a whole host before its fence is proven", "node/fenced.go",
		"wholeHost && c.Epoch == 0 {", "wholeHost && c.Epoch < 0 {",
	},
	{
		"S4", "Ceph is asked when the doubt could end before it answers", rescuer + "controller.go",
		"end.Add(askWithin-reconcileTimeout)", "end",
	},
	{
		"S3", "a machine that was replaced counts as rebooted", "remediator/recorder/record.go",
		"known && (entry.MachineID != info.MachineID", "entry.BootID == \"\" && (entry.MachineID != info.MachineID",
	},
	{
		"S1", "a gate is judged by the volumes that the cache knows", "remediator/observe/gate.go",
		"[]client.Reader{o.Reader, o.Live} {", "[]client.Reader{o.Reader} {",
	},
}
