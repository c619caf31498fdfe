package ceph

import (
	"encoding/binary"
	"math/bits"
	"strconv"
)

// objectPerPlacementGroup gives, for each placement group of a pool, a name that lies in it. Nothing is ever written
// under these names.
func objectPerPlacementGroup(placementGroups uint32, namespace string) []string {
	names := make([]string, placementGroups)
	for missing, i := placementGroups, 0; missing > 0; i++ {
		name := "rbd-rescue.barrier." + strconv.Itoa(i)
		if pg := placementGroup(name, namespace, placementGroups); names[pg] == "" {
			names[pg] = name
			missing--
		}
	}
	return names
}

// placementGroup is where Ceph puts an object: the hash of its name, with the namespace and a 0x1f byte before it if it
// has one, folded onto the number of placement groups (docs.ceph.com, "Mapping PGs"; ceph_stable_mod).
func placementGroup(name, namespace string, placementGroups uint32) uint32 {
	if namespace != "" {
		name = namespace + "\x1f" + name
	}
	hash := rjenkins(name)
	mask := uint32(1)<<bits.Len32(placementGroups-1) - 1
	if folded := hash & mask; folded < placementGroups {
		return folded
	}
	return hash & (mask >> 1)
}

// rjenkins is Bob Jenkins' hash of 1996 with initial value 0, as Ceph uses it for names
// (http://burtleburtle.net/bob/hash/evahash.html).
func rjenkins(name string) uint32 {
	const goldenRatio = 0x9e3779b9
	a, b, c := uint32(goldenRatio), uint32(goldenRatio), uint32(0)
	rest := []byte(name)
	for len(rest) >= 12 {
		a += binary.LittleEndian.Uint32(rest)
		b += binary.LittleEndian.Uint32(rest[4:])
		c += binary.LittleEndian.Uint32(rest[8:])
		a, b, c = mix(a, b, c)
		rest = rest[12:]
	}
	var tail [12]byte // the lowest byte of c is the length's, so the last word's bytes move up by one
	copy(tail[:8], rest)
	if len(rest) > 8 {
		copy(tail[9:], rest[8:])
	}
	a += binary.LittleEndian.Uint32(tail[:])
	b += binary.LittleEndian.Uint32(tail[4:])
	c += binary.LittleEndian.Uint32(tail[8:]) + uint32(len(name)) //nolint:gosec // names are short
	_, _, c = mix(a, b, c)
	return c
}

func mix(a, b, c uint32) (uint32, uint32, uint32) {
	a = (a - b - c) ^ c>>13
	b = (b - c - a) ^ a<<8
	c = (c - a - b) ^ b>>13
	a = (a - b - c) ^ c>>12
	b = (b - c - a) ^ a<<16
	c = (c - a - b) ^ b>>5
	a = (a - b - c) ^ c>>3
	b = (b - c - a) ^ a<<10
	c = (c - a - b) ^ b>>15
	return a, b, c
}
