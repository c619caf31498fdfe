package packed

import "iter"

// table finds slots by a hash: a chained hash table without a pointer or a key, 12 bytes an entry and 4 to 8 for its share of heads.
// Different texts may have one hash, so that whoever asks looks at what is in the slot.
type table struct {
	heads   []uint32 // by hash; 0 for none, else 1 + the place of the first entry
	entries []entry
	free    uint32 // the first entry that is free, as in heads
	used    int
}

type entry struct{ hash, slot, next uint32 }

func (t *table) head(hash uint32) *uint32 { return &t.heads[int(hash)&(len(t.heads)-1)] }

func (t *table) add(hash, slot uint32) {
	if t.used >= len(t.heads) {
		t.grow()
	}
	at := t.free
	if at == 0 {
		t.entries = append(t.entries, entry{})
		at = uint32(len(t.entries)) //nolint:gosec // far fewer than 4 billion
	} else {
		t.free = t.entries[at-1].next
	}
	head := t.head(hash)
	t.entries[at-1] = entry{hash, slot, *head}
	*head = at
	t.used++
}

// grow is called when no entry is free.
func (t *table) grow() {
	t.heads = make([]uint32, max(16, 2*len(t.heads)))
	for i := range t.entries {
		head := t.head(t.entries[i].hash)
		t.entries[i].next = *head
		*head = uint32(i) + 1 //nolint:gosec // as above
	}
}

func (t *table) remove(hash, slot uint32) {
	if len(t.heads) == 0 {
		return
	}
	for link := t.head(hash); *link != 0; link = &t.entries[*link-1].next {
		at := *link
		if e := &t.entries[at-1]; e.hash == hash && e.slot == slot {
			*link = e.next
			*e = entry{next: t.free}
			t.free = at
			t.used--
			return
		}
	}
}

// at are the slots with a hash.
func (t *table) at(hash uint32) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		if len(t.heads) == 0 {
			return
		}
		for at := *t.head(hash); at != 0; at = t.entries[at-1].next {
			if e := t.entries[at-1]; e.hash == hash && !yield(e.slot) {
				return
			}
		}
	}
}
