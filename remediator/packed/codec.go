package packed

import (
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Codec goes over the fields of an object, and writes each into a record or reads it from there: one function says for both what
// the records of a kind hold.
type Codec struct {
	words *words
	// writing tells which way it goes: to out, or from in.
	writing bool
	out     []byte
	in      string
}

// Number is of use for small ones above all.
func Number[N ~uint64 | ~int64](c *Codec, n *N) {
	if c.writing {
		c.out = binary.AppendUvarint(c.out, uint64(*n))
		return
	}
	*n = N(c.number())
}

func (c *Codec) number() uint64 {
	var n uint64
	for shift := 0; ; shift += 7 {
		b := c.in[0]
		c.in = c.in[1:]
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
}

func (c *Codec) put(n uint64) { c.out = binary.AppendUvarint(c.out, n) }

func (c *Codec) take(n int) string {
	text := c.in[:n]
	c.in = c.in[n:]
	return text
}

// Bool is a truth.
func Bool(c *Codec, b *bool) {
	var n uint64
	if *b {
		n = 1
	}
	Number(c, &n)
	if !c.writing {
		*b = n == 1
	}
}

// Word is a text that many objects have.
func Word[S ~string](c *Codec, s *S) {
	if c.writing {
		c.put(uint64(c.words.id(string(*s))))
		return
	}
	*s = S(c.word())
}

func (c *Codec) word() string {
	return c.words.text(uint32(c.number())) //nolint:gosec // as it was written
}

// Forms of a text, in the lowest bits of its first number; the other bits are what is said here.
const (
	plain    = iota // the length of what follows
	decimal         // the number that it is, as a resourceVersion
	around          // the word before a digest; its kind, its bytes, and the word behind it follow
	formBits = 2
)

// Text is a text that few other objects have, or none. Most are generated: a number, or a digest with a beginning and an end that
// many others have too.
func Text[S ~string](c *Codec, s *S) {
	if !c.writing {
		*s = S(c.text())
		return
	}
	text := string(*s)
	if n, err := strconv.ParseUint(text, 10, 64-formBits); err == nil && strconv.FormatUint(n, 10) == text {
		c.head(decimal, n)
		return
	}
	kind, at := findDigest(text)
	if at < 0 {
		c.head(plain, uint64(len(text)))
		c.out = append(c.out, text...)
		return
	}
	end := at + digests[kind].length
	c.head(around, uint64(c.words.id(text[:at])))
	c.put(uint64(kind)) //nolint:gosec // one of three
	c.out = append(c.out, digests[kind].bytes(text[at:end])...)
	c.put(uint64(c.words.id(text[end:])))
}

func (c *Codec) head(form, value uint64) { c.put(value<<formBits | form) }

func (c *Codec) text() string {
	head := c.number()
	switch value := head >> formBits; head & (1<<formBits - 1) {
	case decimal:
		return strconv.FormatUint(value, 10)
	case around:
		before := c.words.text(uint32(value)) //nolint:gosec // as it was written
		digest := digests[c.number()]
		text := digest.text(c.take(digest.size()))
		return before + text + c.word()
	default:
		return strings.Clone(c.take(int(value))) //nolint:gosec // as it was written
	}
}

// digest is how random bytes stand in a name.
type digest struct {
	length int
	// dashes tells whether it is a UUID.
	dashes bool
}

var digests = []digest{{36, true}, {64, false}, {32, false}}

func (d digest) size() int {
	if d.dashes {
		return 16
	}
	return d.length / 2
}

func (d digest) bytes(text string) []byte {
	if d.dashes {
		text = strings.ReplaceAll(text, "-", "")
	}
	b, err := hex.DecodeString(text)
	if err != nil {
		panic(err) // findDigest has seen to it
	}
	return b
}

func (d digest) text(b string) string {
	text := hex.EncodeToString([]byte(b))
	if d.dashes {
		return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
	}
	return text
}

// findDigest finds the last digest in a text, of the first kind that there is; at is less than 0 for none.
func findDigest(text string) (kind, at int) {
	for kind, d := range digests {
		for at := len(text) - d.length; at >= 0; at-- {
			if d.is(text[at : at+d.length]) {
				return kind, at
			}
		}
	}
	return 0, -1
}

func (d digest) is(text string) bool {
	for i := range len(text) {
		dash := d.dashes && (i == 8 || i == 13 || i == 18 || i == 23)
		if b := text[i]; dash != (b == '-') || !dash && (b < '0' || b > '9') && (b < 'a' || b > 'f') {
			return false
		}
	}
	return true
}

// Time is a time of the API, which knows whole seconds.
func Time(c *Codec, t *metav1.Time) {
	if c.writing {
		var n uint64 // 0 for none
		if !t.IsZero() {
			n = uint64(t.Unix()) + 1 //nolint:gosec // wraps, and wraps back
		}
		c.put(n)
		return
	}
	if n := c.number(); n > 0 {
		*t = metav1.Unix(int64(n-1), 0) //nolint:gosec // as it was written
	}
}

// List is a list; one that is empty is nil when it is read.
func List[T any](c *Codec, list *[]T, item func(*Codec, *T)) {
	n := uint64(len(*list))
	Number(c, &n)
	if !c.writing && n > 0 {
		*list = make([]T, n)
	}
	for i := range *list {
		item(c, &(*list)[i])
	}
}

// Optional is what a pointer points to.
func Optional[T any](c *Codec, p **T, item func(*Codec, *T)) {
	is := *p != nil
	Bool(c, &is)
	if !is {
		return
	}
	if !c.writing {
		*p = new(T)
	}
	item(c, *p)
}

// Map is a map whose keys many objects have; one that is empty is nil when it is read.
func Map(c *Codec, m *map[string]string, value func(c *Codec, key string, value *string)) {
	keys := slices.Sorted(maps.Keys(*m))
	List(c, &keys, Word[string])
	if !c.writing && len(keys) > 0 {
		*m = make(map[string]string, len(keys))
	}
	for _, key := range keys {
		v := (*m)[key]
		value(c, key, &v)
		if !c.writing {
			(*m)[key] = v
		}
	}
}
