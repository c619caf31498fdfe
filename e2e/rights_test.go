package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	rbacv1 "k8s.io/api/rbac/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab"
)

// vmOnly is why an agent has its rights.
const vmOnly = "an agent tells what its node has left (TestKernelClient/ReturnWithoutReboot, which needs a VM)"

// seldom are the rights that scenarios need not have rbd-rescue use, each with the reason why it has them. Whatever else the chart
// grants was used: without it a request of some scenario would have been refused.
var seldom = map[string]string{
	"rbd-rescue-webhook: update secrets rbd-rescue-webhook-ca":      "the CA is replaced after two thirds of its year (e2e/certificates)",
	"rbd-rescue-remediator: patch events":                           "leader election counts up an event that it tells again",
	"rbd-rescue-remediator: patch events.events.k8s.io":             "an event that is told again within minutes is counted up",
	"rbd-rescue-remediator: patch volumeattachments.storage.k8s.io": "an attacher that is away for minutes leaves its finalizer (rescuer, plan: FreeAttachment)",
	"rbd-rescue-remediator: patch nodefences.rbd-rescue.io":         "a NodeFence that is over and deleted is let go (plan: ReleaseFinalizer)",
	"rbd-rescue-node: list nodefences.rbd-rescue.io":                vmOnly,
	"rbd-rescue-node: watch nodefences.rbd-rescue.io":               vmOnly,
	"rbd-rescue-node: patch nodefences.rbd-rescue.io":               vmOnly,
}

// right is what a rule of a role grants, once for each verb, resource and name.
type right struct {
	Account, Verb, Group, Resource, Name string
}

func (r right) String() string {
	text := fmt.Sprintf("%s: %s %s", r.Account, r.Verb, r.Resource)
	if r.Group != "" {
		text += "." + r.Group
	}
	return strings.TrimSpace(text + " " + r.Name)
}

// everyRightIsUsed compares what the chart grants with what the API servers saw rbd-rescue use in all scenarios; where two labs have a
// part each, the one that ends last does. The result is the process's.
func everyRightIsUsed(ctx context.Context) int {
	granted, err := grantedRights(ctx)
	if err != nil {
		fmt.Println("reading the chart's roles:", err)
		return 1
	}
	used := map[right]bool{}
	if err := shared.Kube.Audited(func(e auditv1.Event) { markUsed(used, e) }); err != nil {
		fmt.Println(err)
		return 1
	}
	if *part != "" {
		others, err := exchange(used)
		if err != nil {
			fmt.Println("the rights that the other lab's scenarios need:", err)
			return 1
		}
		if others == nil {
			return 0 // it compares when it ends
		}
		maps.Copy(used, others)
	}
	result := 0
	for _, r := range granted {
		_, excused := seldom[r.String()]
		// A list is how an informer begins where the API server has no streaming lists (before Kubernetes 1.32).
		informs := r.Verb == "list" && used[right{r.Account, "watch", r.Group, r.Resource, r.Name}]
		if !used[r] && !excused && !informs {
			fmt.Printf("FAIL: no scenario needs the right %q: take it out of the chart, or say why it is needed\n", r)
			result = 1
		}
	}
	if len(granted) == 0 {
		fmt.Println("FAIL: the chart grants nothing")
		return 1
	}
	return result
}

// exchange leaves what this part has used for the other one, and gives what that has left; nil if it has not ended yet.
func exchange(used map[right]bool) (map[right]bool, error) {
	dir := filepath.Join("bin", "rights") // make test empties it
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return nil, err
	}
	text, err := json.Marshal(slices.Collect(maps.Keys(used)))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, *part), text, 0o600); err != nil {
		return nil, err
	}
	other := map[string]string{beside: alone, alone: beside}[*part]
	text, err = os.ReadFile(filepath.Join(dir, other))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []right
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, err
	}
	rights := map[right]bool{}
	for _, r := range list {
		rights[r] = true
	}
	return rights, nil
}

func grantedRights(ctx context.Context) ([]right, error) {
	var rights []right
	add := func(role string, rules []rbacv1.PolicyRule) {
		if role == "rbd-rescue-override" {
			return // a person's
		}
		account := role
		if role == "rbd-rescue-monitors" {
			account = "rbd-rescue-remediator"
		}
		for _, rule := range rules {
			names := rule.ResourceNames
			if len(names) == 0 {
				names = []string{""}
			}
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						for _, name := range names {
							rights = append(rights, right{account, verb, group, resource, name})
						}
					}
				}
			}
		}
	}
	ours := client.MatchingLabels{"app.kubernetes.io/name": "rbd-rescue"}
	var clusterRoles rbacv1.ClusterRoleList
	if err := shared.Client.List(ctx, &clusterRoles, ours); err != nil {
		return nil, err
	}
	for _, role := range clusterRoles.Items {
		add(role.Name, role.Rules)
	}
	var roles rbacv1.RoleList
	if err := shared.Client.List(ctx, &roles, ours); err != nil {
		return nil, err
	}
	for _, role := range roles.Items {
		add(role.Name, role.Rules)
	}
	return rights, nil
}

// markUsed notes a request that was let through, by each way in which a rule may grant it.
func markUsed(used map[right]bool, e auditv1.Event) {
	at := slices.Index(lab.Accounts(), e.User.Username)
	if at < 0 || e.ObjectRef == nil || e.ResponseStatus != nil && e.ResponseStatus.Code == 403 {
		return
	}
	account := e.User.Username[strings.LastIndexByte(e.User.Username, ':')+1:]
	resource := e.ObjectRef.Resource
	if e.ObjectRef.Subresource != "" {
		resource += "/" + e.ObjectRef.Subresource
	}
	name := e.ObjectRef.Name
	if name == "" { // a list or watch of one object by its name
		name = nameInSelector(e.RequestURI)
	}
	for _, n := range []string{"", name} {
		used[right{account, e.Verb, e.ObjectRef.APIGroup, resource, n}] = true
	}
}

func nameInSelector(uri string) string {
	_, rest, ok := strings.Cut(uri, "fieldSelector=metadata.name%3D")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "&")
	return name
}
