package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
	"github.com/rbd-rescue/rbd-rescue/cmd/kubectl-rescue/remote"
	"github.com/rbd-rescue/rbd-rescue/cmd/kubectl-rescue/restore"
	"github.com/rbd-rescue/rbd-rescue/manifests"
	"github.com/rbd-rescue/rbd-rescue/manifests/images"
)

// copyingTakes bounds a command that copies data, unless --timeout is given.
const copyingTakes = 6 * time.Hour

// restoring is one call of kubectl rescue restore.
type restoring struct {
	*plugin
	out            output
	clusterID      string
	list, dryRun   bool
	claim, volume  string
	snapshot       string
	cloneAs        string
	flatten        bool
	rollback       bool
	overwrite      string
	clientsAreGone bool

	runner remote.Runner
	api    client.Client
}

func restoreCommand(p *plugin) *cobra.Command {
	r := &restoring{plugin: p}
	command := &cobra.Command{
		Use:   "restore POOL/IMAGE",
		Short: "Build PersistentVolume and claim again from the manifests that an image carries",
		Long: `Build the PersistentVolume and the claim of a volume again from the manifests that its image carries, also where the whole
Kubernetes cluster was lost; bound to each other, with the reclaim policy Retain. Nothing is overwritten, and an image that anybody
uses, or may use, is refused with the reasons.

With --snapshot the volume is a new image, a clone of that snapshot; with --rollback the image itself is overwritten with it.
--dry-run checks all that and prints the objects. With --list POOL[/NAMESPACE] it shows the images of a pool that carry manifests.`,
		Example: `  kubectl rescue restore --list kubernetes
  kubectl rescue restore kubernetes/csi-vol-1 --dry-run -o yaml
  kubectl rescue restore kubernetes/csi-vol-1
  kubectl rescue restore kubernetes/csi-vol-1 --snapshot rbd-rescue-x --as-claim data-before --namespace shop
  kubectl rescue restore kubernetes/csi-vol-1 --snapshot rbd-rescue-x --rollback --overwrite kubernetes/csi-vol-1`,
		Args: exit.Takes("POOL/IMAGE"),
		RunE: func(command *cobra.Command, args []string) error {
			if err := r.check(); err != nil {
				return err
			}
			if (r.rollback || r.flatten) && !command.Flags().Changed("timeout") {
				r.timeout = copyingTakes
			}
			ctx, cancel := r.deadline(command.Context())
			defer cancel()
			if err := r.connect(); err != nil {
				return err
			}
			if r.list {
				return r.show(ctx, args[0])
			}
			image, err := ceph.ParseImage(args[0])
			if err != nil {
				return exit.Misuse(err)
			}
			return r.restore(ctx, image)
		},
	}
	flags := command.Flags()
	r.out.addTo(command, "json", "yaml")
	flags.StringVar(&r.clusterID, "ceph-cluster", "", "clusterID of the Ceph cluster; may be left out where rbd-rescue has one")
	flags.BoolVar(&r.list, "list", false, "show the images of a pool that carry manifests")
	flags.BoolVar(&r.dryRun, "dry-run", false, "check, and print the objects, and change nothing")
	flags.StringVar(&r.claim, "as-claim", "", "name of the claim; with --namespace its namespace")
	flags.StringVar(&r.volume, "as-volume", "", "name of the PersistentVolume")
	flags.StringVar(&r.snapshot, "snapshot", "", "restore what the image was at this snapshot")
	flags.StringVar(&r.cloneAs, "clone-as", "", "with --snapshot: name of the new image; IMAGE-SNAPSHOT without it")
	flags.BoolVar(&r.flatten, "flatten", false, "with --snapshot: copy all data, so that the new image does not need the old one")
	flags.BoolVar(&r.rollback, "rollback", false, "with --snapshot: overwrite the image itself; what was written since is lost")
	flags.StringVar(&r.overwrite, "overwrite", "", "with --rollback: the image again, POOL/IMAGE, to confirm it")
	flags.BoolVar(&r.clientsAreGone, "clients-are-gone", false, "you have made sure that no client which had the image can write to it any more")
	return command
}

func (r *restoring) check() error {
	if err := r.out.check(); err != nil {
		return err
	}
	switch {
	case r.snapshot == "" && (r.rollback || r.flatten || r.cloneAs != ""):
		return exit.Misusef("--rollback, --flatten and --clone-as need --snapshot")
	case r.rollback && (r.flatten || r.cloneAs != ""):
		return exit.Misusef("--rollback overwrites the image, and makes no clone: leave out --flatten and --clone-as")
	case r.overwrite != "" && !r.rollback:
		return exit.Misusef("--overwrite is for --rollback alone")
	default:
		return nil
	}
}

func (r *restoring) connect() (err error) {
	if r.runner, err = r.rescue(); err != nil || r.list {
		return err
	}
	r.api, err = r.client()
	return err
}

// ask runs `rbd-rescue image …` and reads its answer; into may be nil.
func (r *restoring) ask(ctx context.Context, into any, args ...string) error {
	var answer bytes.Buffer
	if r.clusterID != "" {
		args = append(args, "--cluster="+r.clusterID)
	}
	if deadline, is := ctx.Deadline(); is {
		args = append(args, "--timeout="+time.Until(deadline).Round(time.Second).String())
	}
	if err := r.runner.Run(ctx, remote.Streams{Out: &answer, Err: r.ErrOut}, append([]string{"image"}, args...)...); err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(answer.Bytes(), into); err != nil {
		return fmt.Errorf("decoding the answer of rbd-rescue image %s: %w", args[0], err)
	}
	return nil
}

func (r *restoring) show(ctx context.Context, pool string) error {
	var found []images.Image
	if err := r.ask(ctx, &found, "list", pool); err != nil {
		return err
	}
	if is, err := r.out.data(r.Out, found); is {
		return err
	}
	return restore.Table(r.Out, found)
}

func (r *restoring) restore(ctx context.Context, id ceph.Image) error {
	if r.rollback && r.overwrite != id.String() {
		return exit.Misusef("what was written to image %s since snapshot %s would be lost: if you want that, add --overwrite %s", id, r.snapshot, id)
	}
	s, err := r.judge(ctx, id)
	if err != nil {
		return err
	}
	if r.dryRun {
		return r.print(s)
	}
	switch {
	case s.Fresh:
		if s, err = r.clone(ctx, id, s); err != nil {
			return err
		}
	case r.rollback:
		if err := r.ask(ctx, nil, "rollback", id.String()+"@"+r.snapshot, "--overwrite="+id.String()); err != nil {
			return fmt.Errorf("rolling image %s back to snapshot %s: %w", id, r.snapshot, err)
		}
		fmt.Fprintf(r.ErrOut, "Image %s is rolled back to snapshot %s.\n", id, r.snapshot)
		if s, err = r.judge(ctx, id); err != nil { // it may have taken long
			return err
		}
	}
	if r.rollback && s.Exists() {
		fmt.Fprintf(r.ErrOut, "PersistentVolume %s and claim %s/%s are there already, and stay as they are.\n", s.Volume.Name, s.Claim.Namespace, s.Claim.Name)
		return r.print(s)
	}
	if err := restore.Apply(ctx, r.api, s.Volume, s.Claim); err != nil {
		return err
	}
	if r.out.format != "" {
		return r.print(s)
	}
	fmt.Fprintf(r.Out, "Made PersistentVolume %s and claim %s/%s of image %s. See it bound: kubectl -n %s get pvc %s\n",
		s.Volume.Name, s.Claim.Namespace, s.Claim.Name, s.Image.Image, s.Claim.Namespace, s.Claim.Name)
	return nil
}

// judge looks at everything, and gives an error where it must not be done.
func (r *restoring) judge(ctx context.Context, id ceph.Image) (restore.Situation, error) {
	s := restore.Situation{Overwrite: r.rollback, ClientsAreGone: r.clientsAreGone, Fresh: r.snapshot != "" && !r.rollback}
	if err := r.ask(ctx, &s.Image, "show", id.String()); err != nil {
		return s, fmt.Errorf("looking at image %s: %w", id, err)
	}
	if s.Image.Manifests == nil {
		return s, fmt.Errorf("image %s carries no manifests that can be read (%s): build the objects by hand, as docs/restore.md says", id, orNone(s.Image.Problem))
	}
	target := manifests.Target{Image: id, Size: s.Image.Size}
	if s.Fresh {
		snapshot, err := s.Image.Snapshot(r.snapshot)
		if err != nil {
			return s, err
		}
		target.Image.Name, target.Size = r.cloneName(id), snapshot.Size
		s.Image.Image = target.Image.String()
	}
	if err := r.rebuild(&s, target); err != nil {
		return s, err
	}
	if err := restore.Look(ctx, r.api, &s); err != nil {
		return s, err
	}
	if refusals := restore.Refusals(s); len(refusals) > 0 {
		return s, fmt.Errorf("image %s is not restored as claim %s/%s:\n- %s", id, s.Claim.Namespace, s.Claim.Name, strings.Join(refusals, "\n- "))
	}
	return s, nil
}

func (r *restoring) rebuild(s *restore.Situation, target manifests.Target) (err error) {
	target.Claim, target.Volume, target.Namespace = r.claim, r.volume, *r.flags.Namespace
	s.Volume, s.Claim, err = s.Image.Manifests.Rebuild(target)
	return err
}

func (r *restoring) cloneName(id ceph.Image) string {
	if r.cloneAs != "" {
		return r.cloneAs
	}
	return id.Name + "-" + r.snapshot
}

// clone makes the image, and looks at the API again: it may have taken long.
func (r *restoring) clone(ctx context.Context, id ceph.Image, s restore.Situation) (restore.Situation, error) {
	args := []string{"clone", id.String() + "@" + r.snapshot, r.cloneName(id)}
	if r.flatten {
		args = append(args, "--flatten")
	}
	clone := s
	clone.Image = images.Image{}
	if err := r.ask(ctx, &clone.Image, args...); err != nil {
		return s, fmt.Errorf("cloning snapshot %s of image %s as %s (if that exists, restore it by its own name, or give another with --clone-as): %w", r.snapshot, id, r.cloneName(id), err)
	}
	fmt.Fprintf(r.ErrOut, "Made image %s of snapshot %s of image %s.\n", clone.Image.Image, r.snapshot, id)
	if err := restore.Look(ctx, r.api, &clone); err != nil {
		return clone, err
	}
	if refusals := restore.Refusals(clone); len(refusals) > 0 {
		return clone, fmt.Errorf("image %s is made, and not restored as claim %s/%s:\n- %s", clone.Image.Image, clone.Claim.Namespace, clone.Claim.Name, strings.Join(refusals, "\n- "))
	}
	return clone, nil
}

// print writes the objects as kubectl apply takes them.
func (r *restoring) print(s restore.Situation) error {
	list := map[string]any{"apiVersion": "v1", "kind": "List", "items": []any{s.Volume, s.Claim}}
	if is, err := r.out.data(r.Out, list); is || !r.dryRun {
		return err
	}
	_, err := fmt.Fprintf(r.Out, "Would make PersistentVolume %s and claim %s/%s of image %s (-o yaml shows them)\n", s.Volume.Name, s.Claim.Namespace, s.Claim.Name, s.Image.Image)
	return err
}

func orNone(problem string) string {
	if problem == "" {
		return "it has none"
	}
	return problem
}
