package node

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// mountEntry is a line of /proc/PID/mountinfo.
type mountEntry struct {
	number     string // major:minor
	root, path string
	kind       string // of the file system
	source     string
	peers      []string // groups of propagation that it sends to or receives from
}

// parseMountinfo reads the file as proc(5) describes it. A line that is not of this form is an error: it may be a mount of ours.
func parseMountinfo(text string) ([]mountEntry, error) {
	var entries []mountEntry
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		dash := slices.Index(fields, "-")
		if dash < 6 || len(fields) < dash+3 {
			return nil, fmt.Errorf("%q is no line of mountinfo", strings.TrimSpace(line))
		}
		entry := mountEntry{
			number: fields[2], root: unescape(fields[3]), path: unescape(fields[4]), kind: fields[dash+1], source: unescape(fields[dash+2]),
		}
		for _, option := range fields[6:dash] {
			for _, name := range []string{"shared:", "master:"} {
				if group, is := strings.CutPrefix(option, name); is {
					entry.peers = append(entry.peers, group)
				}
			}
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// unescape undoes what the kernel does to blanks, line breaks and backslashes: \040 and the like.
func unescape(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+3 < len(text) {
			if code, err := strconv.ParseUint(text[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(code))
				i += 3
				continue
			}
		}
		out.WriteByte(text[i])
	}
	return out.String()
}

// of tells whether the mount is one of a mapping's layers, and whether it is the device's node itself. File systems with numbers of their
// own (btrfs) name their device as the source.
func (e mountEntry) of(layers []Layer) (is, device bool) {
	for _, layer := range layers {
		if e.kind == "devtmpfs" || e.kind == "tmpfs" {
			if e.root == "/"+layer.Name {
				return true, true
			}
			continue
		}
		if e.number == layer.Number || e.source == "/dev/"+layer.Name || layer.Mapper != "" && e.source == "/dev/mapper/"+layer.Mapper {
			return true, false
		}
	}
	return false, false
}

// follows tells whether the mount goes when another one is unmounted, since it gets what happens there.
func (e mountEntry) follows(others []mountEntry) bool {
	return slices.ContainsFunc(others, func(other mountEntry) bool {
		return slices.ContainsFunc(e.peers, func(group string) bool { return slices.Contains(other.peers, group) })
	})
}
