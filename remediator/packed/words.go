package packed

import "strings"

// words are texts that many records have, each kept once: names of nodes and namespaces, the beginnings of generated names.
type words struct {
	texts []string
	ids   map[string]uint32
	free  []uint32
	// named is not nil while records are read to find out which words they name.
	named []bool
	// due is how many words there are when it is worth while to look for those that no record names any more.
	due int
}

// fewWords are not worth a look.
const fewWords = 4096

func newWords() words { return words{ids: map[string]uint32{}, due: fewWords} }

func (w *words) id(text string) uint32 {
	if id, known := w.ids[text]; known {
		return id
	}
	text = strings.Clone(text) // it may be a part of a much longer one
	var id uint32
	if last := len(w.free) - 1; last >= 0 {
		id, w.free = w.free[last], w.free[:last]
		w.texts[id] = text
	} else {
		id = uint32(len(w.texts)) //nolint:gosec // far fewer than 4 billion
		w.texts = append(w.texts, text)
	}
	w.ids[text] = id
	return id
}

func (w *words) text(id uint32) string {
	if w.named != nil {
		w.named[id] = true
	}
	return w.texts[id]
}

// sweep forgets the words that read does not come across. Nodes and boots come and go as long as the process lives.
func (w *words) sweep(read func()) {
	w.named = make([]bool, len(w.texts))
	read()
	for text, id := range w.ids {
		if !w.named[id] {
			delete(w.ids, text)
			w.texts[id] = ""
			w.free = append(w.free, id)
		}
	}
	w.named = nil
	w.due = max(fewWords, 2*len(w.ids))
}
