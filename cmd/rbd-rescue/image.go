package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
	"github.com/rbd-rescue/rbd-rescue/manifests/images"
)

// imageVerb are the flags of all `rbd-rescue image` commands.
type imageVerb struct {
	verb
	clusterID string
	timeout   time.Duration
}

func (v *imageVerb) addFlags(flags *pflag.FlagSet, timeout time.Duration) {
	v.verb.addFlags(flags)
	flags.StringVar(&v.clusterID, "cluster", "", "clusterID of the Ceph cluster; may be left out where one is configured")
	flags.DurationVar(&v.timeout, "timeout", timeout, "how long it may take")
}

// do opens the pool and prints what comes of it as JSON.
func (v *imageVerb) do(command *cobra.Command, act func(context.Context, images.Pool) (any, error)) error {
	site, err := v.open("image")
	if err != nil {
		return err
	}
	clusterID, err := v.cluster(site.clusters.IDs())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(command.Context(), v.timeout)
	defer cancel()
	result, err := act(ctx, images.Pool{ClusterID: clusterID, Clusters: site.clusters, Now: time.Now()})
	if err != nil {
		return err
	}
	if result == nil {
		return nil
	}
	if err := json.NewEncoder(command.OutOrStdout()).Encode(result); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

func (v *imageVerb) cluster(ids []string) (string, error) {
	slices.Sort(ids)
	switch {
	case v.clusterID == "" && len(ids) == 1:
		return ids[0], nil
	case !slices.Contains(ids, v.clusterID):
		return "", exit.Misusef("--cluster %q (kubectl rescue restore: --ceph-cluster): name one of the configured clusterIDs: %s", v.clusterID, strings.Join(ids, ", "))
	default:
		return v.clusterID, nil
	}
}

// Ceph's own limits bound each operation; these bound the whole.
const (
	lookingTakes = time.Minute
	copyingTakes = 6 * time.Hour
)

func imageCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "image",
		Short: "Looks at images that carry manifests, clones their snapshots and rolls back to them (kubectl rescue restore runs these)",
		Args:  exit.Commands,
		RunE:  func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.AddCommand(imageListCommand(), imageShowCommand(), imageCloneCommand(), imageRollbackCommand())
	return command
}

func imageListCommand() *cobra.Command {
	var v imageVerb
	command := &cobra.Command{
		Use:   "list POOL[/NAMESPACE]",
		Short: "Prints the images of a pool that carry manifests, with who uses them and their snapshots",
		Args:  exit.Takes("POOL[/NAMESPACE]"),
		RunE: func(command *cobra.Command, args []string) error {
			pool, namespace, _ := strings.Cut(args[0], "/")
			return v.do(command, func(ctx context.Context, in images.Pool) (any, error) { return in.List(ctx, pool, namespace) })
		},
	}
	v.addFlags(command.Flags(), lookingTakes)
	return command
}

func imageShowCommand() *cobra.Command {
	var v imageVerb
	command := &cobra.Command{
		Use:   "show POOL/IMAGE",
		Short: "Prints one image with its manifests, who uses it, and which clients on record are cut off",
		Args:  exit.Takes("POOL/IMAGE"),
		RunE: func(command *cobra.Command, args []string) error {
			image, err := ceph.ParseImage(args[0])
			if err != nil {
				return exit.Misuse(err)
			}
			return v.do(command, func(ctx context.Context, in images.Pool) (any, error) { return in.Show(ctx, image) })
		},
	}
	v.addFlags(command.Flags(), lookingTakes)
	return command
}

func imageCloneCommand() *cobra.Command {
	var v imageVerb
	var flat bool
	command := &cobra.Command{
		Use:   "clone POOL/IMAGE@SNAPSHOT NAME",
		Short: "Makes image NAME of a snapshot in the same pool, and prints it",
		Args:  exit.Takes("POOL/IMAGE@SNAPSHOT", "NAME"),
		RunE: func(command *cobra.Command, args []string) error {
			image, snapshot, err := parseSnapshot(args[0])
			if err != nil {
				return exit.Misuse(err)
			}
			if _, err := ceph.ParseImage(image.Pool + "/" + args[1]); err != nil || strings.Contains(args[1], "/") {
				return exit.Misusef("%q is no name of an image", args[1])
			}
			return v.do(command, func(ctx context.Context, in images.Pool) (any, error) {
				return in.Clone(ctx, image, snapshot, args[1], flat)
			})
		},
	}
	v.addFlags(command.Flags(), copyingTakes)
	command.Flags().BoolVar(&flat, "flatten", false, "copy all data, so that neither needs the other any more")
	return command
}

func imageRollbackCommand() *cobra.Command {
	var v imageVerb
	var overwrite string
	command := &cobra.Command{
		Use:   "rollback POOL/IMAGE@SNAPSHOT --overwrite POOL/IMAGE",
		Short: "Overwrites an image that nobody uses with a snapshot of it: what was written since is lost",
		Args:  exit.Takes("POOL/IMAGE@SNAPSHOT"),
		RunE: func(command *cobra.Command, args []string) error {
			image, snapshot, err := parseSnapshot(args[0])
			if err != nil {
				return exit.Misuse(err)
			}
			if overwrite != image.String() {
				return exit.Misusef("what was written to image %s since snapshot %s would be lost: if you want that, add --overwrite %s", image, snapshot, image)
			}
			return v.do(command, func(ctx context.Context, in images.Pool) (any, error) { return nil, in.Rollback(ctx, image, snapshot) })
		},
	}
	v.addFlags(command.Flags(), copyingTakes)
	command.Flags().StringVar(&overwrite, "overwrite", "", "the image again, since what was written since the snapshot is lost")
	return command
}

func parseSnapshot(text string) (ceph.Image, string, error) {
	imageText, snapshot, is := strings.Cut(text, "@")
	image, err := ceph.ParseImage(imageText)
	if err != nil || !is || snapshot == "" {
		return ceph.Image{}, "", fmt.Errorf("%q is not a snapshot: write POOL/IMAGE@SNAPSHOT or POOL/NAMESPACE/IMAGE@SNAPSHOT", text)
	}
	return image, snapshot, nil
}
