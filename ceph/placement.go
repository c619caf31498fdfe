package ceph

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strconv"
)

// maxPlacementGroups of a pool; more is taken for a mistake (mon_max_pool_pg_num is 65536).
const maxPlacementGroups = 1 << 20

// ObjectPerPlacementGroup gives, for each placement group of a pool, the name of an object that would lie in it, always the
// same one. Nothing is ever written under these names. A pool of no placement groups is refused: nothing could be proven.
func ObjectPerPlacementGroup(placementGroups uint32, namespace string) ([]string, error) {
	if placementGroups == 0 || placementGroups > maxPlacementGroups {
		return nil, fmt.Errorf("a pool of %d placement groups can't be", placementGroups)
	}
	names := make([]string, placementGroups)
	for missing, i := placementGroups, 0; missing > 0; i++ {
		name := "rbd-rescue.barrier." + strconv.Itoa(i)
		if pg := PlacementGroup(name, namespace, placementGroups); names[pg] == "" {
			names[pg] = name
			missing--
		}
	}
	return names, nil
}

// PlacementGroup is where Ceph puts an object in a pool of the given number of placement groups (not 0) whose object hash
// is rjenkins.
func PlacementGroup(name, namespace string, placementGroups uint32) uint32 {
	return stableMod(rjenkins(hashKey(name, namespace)), placementGroups)
}

// hashKey is what the hash is taken of: the namespace, if there is one, stands before the name with a 0x1f byte between.
func hashKey(name, namespace string) string {
	if namespace == "" {
		return name
	}
	return namespace + "\x1f" + name
}

// stableMod folds a hash onto n placement groups so that few objects move when n grows (ceph_stable_mod in Ceph's words):
// modulo the next power of two, and modulo the one before it where that is not below n.
func stableMod(hash, n uint32) uint32 {
	mask := uint32(1)<<bits.Len32(n-1) - 1
	if folded := hash & mask; folded < n {
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
