package node

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteJSON prints a survey for programs.
func WriteJSON(out io.Writer, s Survey) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(s); err != nil {
		return fmt.Errorf("printing the mappings: %w", err)
	}
	return nil
}

// WriteTable prints a survey for people: a line for each mount point of a mapping, or one where there is none.
func WriteTable(out io.Writer, s Survey) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "DEVICE\tIMAGE\tCLIENT\tMOUNT POINT\tPOD\tCONTAINERS")
	for _, m := range s.Mappings {
		begin := fmt.Sprintf("%s\t%s\t%s", m.Device, m.ImageName(), m.Client)
		if len(m.Mounts) == 0 {
			fmt.Fprintf(w, "%s\t-\t%s\t-\n", begin, cmp.Or(list(m.Elsewhere), "-"))
		}
		for _, mount := range m.Mounts {
			pod, containers := "-", "-"
			for _, p := range m.Pods {
				if p.UID == mount.Place.Pod {
					pod, containers = strings.TrimPrefix(p.String(), "pod "), cmp.Or(names(p.Containers), "-")
				}
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", begin, mount.Path, pod, containers)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("printing the mappings: %w", err)
	}
	for _, process := range s.Processes {
		fmt.Fprintf(out, "%s has an image mapped that the kernel does not tell\n", process)
	}
	if s.RuntimeError != "" {
		fmt.Fprintf(out, "pods are not named: %s\n", s.RuntimeError)
	}
	return nil
}

func list(processes []Process) string {
	var all []string
	for _, p := range processes {
		all = append(all, p.String())
	}
	return strings.Join(all, ", ")
}

func names(containers []Container) string {
	var all []string
	for _, c := range containers {
		all = append(all, c.Name)
	}
	return strings.Join(all, ", ")
}
