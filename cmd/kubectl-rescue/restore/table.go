package restore

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rbd-rescue/rbd-rescue/manifests/images"
)

// Table shows images for people.
func Table(w io.Writer, found []images.Image) error {
	if len(found) == 0 {
		_, err := fmt.Fprintln(w, "No image of this pool carries manifests.")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "IMAGE\tCLAIM\tPERSISTENTVOLUME\tSAVED\tUSE\tSNAPSHOTS")
	for _, image := range found {
		fmt.Fprintln(table, strings.Join(row(image), "\t"))
	}
	return table.Flush()
}

func row(image images.Image) []string {
	if image.Manifests == nil {
		return []string{image.Image, image.Problem}
	}
	m, claim := image.Manifests, image.Manifests.Claim
	name := claim.Namespace + "/" + claim.Name
	if own, err := m.Image(); err != nil || own.String() != image.Image {
		name = "(clone of " + own.String() + ")"
	}
	var snapshots []string
	for _, s := range image.Snapshots {
		snapshots = append(snapshots, s.Name)
	}
	return []string{
		image.Image, name, m.PersistentVolume.Name, m.SavedAt.UTC().Format(time.RFC3339),
		cmp.Or(image.InUse(), "nobody seen"), cmp.Or(strings.Join(snapshots, ","), "-"),
	}
}
