package policies

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// write is one call of the API.
type write func(ctx context.Context, c client.Client) error

// attempt is what somebody tries. Nothing comes of it: the API server takes it for a dry run, with all of its admission.
type attempt struct {
	as string
	do write
	// refused is part of the answer; empty where the write is allowed.
	refused string
}

// try makes each attempt.
func try(t *testing.T, attempts map[string]attempt) {
	t.Helper()
	for name, attempt := range attempts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := users[attempt.as]
			if c == nil {
				t.Fatalf("nobody is called %s", attempt.as)
			}
			err := attempt.do(t.Context(), client.NewDryRunClient(c))
			switch {
			case attempt.refused == "" && err != nil:
				t.Errorf("refused: %v", err)
			case attempt.refused != "" && err == nil:
				t.Errorf("allowed, want it refused with %q", attempt.refused)
			case err != nil && (!apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), attempt.refused)):
				t.Errorf("refused with: %v\nwant: %s", err, attempt.refused)
			}
		})
	}
}

// made creates objects as an administrator, and has them deleted after the test.
func made(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		wanted := copied(object)
		if err := users["admin"].Create(t.Context(), object); err != nil {
			t.Fatalf("making %T %s: %v", object, object.GetName(), err)
		}
		if node, ok := wanted.(*corev1.Node); ok {
			finish(t, node)
		}
		if err := users["admin"].Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			t.Fatalf("reading %T %s: %v", object, object.GetName(), err)
		}
		t.Cleanup(func() {
			ctx := context.Background()
			_ = users["admin"].Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))
			if err := users["admin"].Delete(ctx, object, client.GracePeriodSeconds(0)); client.IgnoreNotFound(err) != nil {
				t.Errorf("deleting %T %s: %v", object, object.GetName(), err)
			}
		})
	}
}

// finish gives a node what its creation leaves out: its status, and no other taints than its own (Kubernetes' admission taints
// whatever is new).
func finish(t *testing.T, node *corev1.Node) {
	t.Helper()
	for _, do := range []write{merge(node, `{"spec":{"taints":%s}}`, text(t, node.Spec.Taints)), mergeStatus(node, `{"status":%s}`, text(t, node.Status))} {
		if err := do(t.Context(), users["admin"]); err != nil {
			t.Fatalf("finishing node %s: %v", node.Name, err)
		}
	}
}

func text(t *testing.T, value any) string {
	t.Helper()
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

// copied keeps parallel attempts from writing into one object.
func copied(object client.Object) client.Object { return object.DeepCopyObject().(client.Object) }

func create(object client.Object) write {
	return func(ctx context.Context, c client.Client) error { return c.Create(ctx, copied(object)) }
}

func remove(object client.Object, options ...client.DeleteOption) write {
	return func(ctx context.Context, c client.Client) error { return c.Delete(ctx, copied(object), options...) }
}

// merge is a JSON merge patch, and mergeStatus one of the status.
func merge(object client.Object, format string, values ...any) write {
	return patch(object, types.MergePatchType, fmt.Sprintf(format, values...))
}

func mergeStatus(object client.Object, format string, values ...any) write {
	return patchStatus(object, types.MergePatchType, fmt.Sprintf(format, values...))
}

// operations is a JSON patch.
func operations(object client.Object, text string) write {
	return patch(object, types.JSONPatchType, text)
}

func patch(object client.Object, kind types.PatchType, text string) write {
	return func(ctx context.Context, c client.Client) error {
		return c.Patch(ctx, copied(object), client.RawPatch(kind, []byte(text)))
	}
}

func patchStatus(object client.Object, kind types.PatchType, text string) write {
	return func(ctx context.Context, c client.Client) error {
		return c.Status().Patch(ctx, copied(object), client.RawPatch(kind, []byte(text)))
	}
}

// by has each of these make the attempts that name nobody.
func by(who []string, attempts map[string]attempt) map[string]attempt {
	all := map[string]attempt{}
	for name, a := range attempts {
		if a.as != "" {
			all[name] = a
			continue
		}
		for _, user := range slices.Sorted(slices.Values(who)) {
			a.as = user
			all[user+" "+name] = a
		}
	}
	return all
}
