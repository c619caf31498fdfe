package webhook

// nearest finds the word that a mistyped one was meant to be: the one with the least share of its letters to add, take away or
// change; near is false if that is more than half.
func nearest(typed string, words []string) (word string, near bool) {
	least := 0
	for _, candidate := range words {
		if d := distance(typed, candidate); word == "" || d*len(word) < least*len(candidate) {
			word, least = candidate, d
		}
	}
	return word, word != "" && 2*least <= len(word)
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := diagonal
			if a[i] != b[j] {
				changed++
			}
			diagonal = row[j+1]
			row[j+1] = min(changed, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
