package packed

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"pgregory.net/rapid"
)

// pods keep a node, and its claims' names; finished ones are not kept.
var pods = FormOf(func(c *Codec, pod *corev1.Pod) {
	Text(c, &pod.UID)
	Text(c, &pod.ResourceVersion)
	Optional(c, &pod.DeletionTimestamp, Time)
	Word(c, &pod.Spec.NodeName)
	List(c, &pod.Spec.Volumes, func(c *Codec, v *corev1.Volume) { Text(c, &v.Name) })
}, func(pod *corev1.Pod) bool { return pod.Status.Phase != corev1.PodSucceeded })

var indexers = toolscache.Indexers{
	"node": func(o any) ([]string, error) { return []string{o.(*corev1.Pod).Spec.NodeName}, nil },
	"volume": func(o any) ([]string, error) {
		var names []string
		for _, v := range o.(*corev1.Pod).Spec.Volumes {
			names = append(names, v.Name)
		}
		return names, nil
	},
}

func pod(name, node string, volumes ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.PodSpec{NodeName: node}}
	for _, v := range volumes {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: v})
	}
	return p
}

// texts are such as names and identifiers are, and such as only look like them.
var texts = rapid.OneOf(
	rapid.String(),
	rapid.SampledFrom([]string{"", "0", "007", "-1", "18446744073709551615", "4611686018427387903", "4611686018427387904", "data"}),
	rapid.StringMatching(`(pvc-|csi-vol-|)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}("\]\}\}|)`),
	rapid.StringMatching(`(csi-|)[0-9a-f]{30,70}`),
	rapid.StringMatching(`[0-9A-F]{32}`),
)

func TestWhatIsPackedIsTheSameWhenItIsRead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := pod(texts.Draw(t, "name"), texts.Draw(t, "node"), rapid.SliceOf(texts).Draw(t, "volumes")...)
		want.UID, want.ResourceVersion = types.UID(texts.Draw(t, "uid")), texts.Draw(t, "version")
		if rapid.Bool().Draw(t, "terminating") {
			want.DeletionTimestamp = new(metav1.Unix(rapid.Int64Range(0, 1<<40).Draw(t, "seconds"), 0))
		}
		s := NewStore(pods, nil)
		if err := s.Add(want); err != nil {
			t.Fatal(err)
		}
		got, exists, err := s.Get(want)
		if diff := cmp.Diff(want, got); diff != "" || !exists || err != nil {
			t.Errorf("exists %v, error %v, -want +got:\n%s", exists, err, diff)
		}
	})
}

// Whatever happens: a Store has what client-go's own would have.
func TestAStoreAnswersAsClientGosDoes(t *testing.T) {
	t.Parallel()
	nodes, volumes := []string{"node-a", "node-b", ""}, []string{"data", "logs", "data"}
	rapid.Check(t, func(t *rapid.T) {
		theirs, ours := toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, indexers), NewStore(pods, indexers)
		ours.words.due = 3
		draw := func(t *rapid.T) *corev1.Pod {
			return pod(fmt.Sprintf("pod-%d", rapid.IntRange(0, 30).Draw(t, "pod")), rapid.SampledFrom(nodes).Draw(t, "node"),
				rapid.SliceOfN(rapid.SampledFrom(volumes), 0, 3).Draw(t, "volumes")...)
		}
		t.Repeat(map[string]func(*rapid.T){
			"update": func(t *rapid.T) {
				p := draw(t)
				_, _ = theirs.Update(p), ours.Update(p)
			},
			"finish": func(t *rapid.T) {
				p := draw(t)
				p.Status.Phase = corev1.PodSucceeded
				_, _ = theirs.Delete(p), ours.Update(p)
			},
			"delete": func(t *rapid.T) {
				p := draw(t)
				_, _ = theirs.Delete(p), ours.Delete(p)
			},
			"replace": func(t *rapid.T) {
				var all, same []any
				for range rapid.IntRange(0, 20).Draw(t, "pods") {
					p := draw(t)
					all, same = append(all, p), append(same, p)
				}
				_, _ = theirs.Replace(all, "1"), ours.Replace(same, "1")
			},
			"tidy": func(*rapid.T) { ours.words.due = 0; ours.tidy() },
			"values": func(t *rapid.T) {
				check(t, "values", theirs.ListIndexFuncValues("node"), ours.ListIndexFuncValues("node"))
			},
			"": func(t *rapid.T) {
				check(t, "keys", theirs.ListKeys(), ours.ListKeys())
				for _, node := range nodes {
					of(t, theirs, ours, "node", node)
				}
				for _, volume := range volumes {
					of(t, theirs, ours, "volume", volume)
				}
				for _, key := range []string{"shop/pod-1", "shop/pod-2"} {
					_, want, _ := theirs.GetByKey(key)
					if _, got, _ := ours.GetByKey(key); got != want || ours.Has(key) != want {
						t.Errorf("%s: there %v, want %v", key, got, want)
					}
				}
			},
		})
	})
}

func of(t *rapid.T, theirs, ours toolscache.Indexer, index, value string) {
	want, _ := theirs.IndexKeys(index, value)
	got, err := ours.IndexKeys(index, value)
	if err != nil {
		t.Error(err)
	}
	check(t, index+" "+value, want, got)
}

func check(t *rapid.T, what string, want, got []string) {
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestAnIndexThatIsAddedLaterHasWhatIsThere(t *testing.T) {
	t.Parallel()
	s := NewStore(pods, nil)
	_ = s.Add(pod("a", "node-a"))
	if err := s.AddIndexers(indexers); err != nil {
		t.Fatal(err)
	}
	if keys, err := s.IndexKeys("node", "node-a"); !slices.Equal(keys, []string{"shop/a"}) || err != nil {
		t.Errorf("got %v, %v", keys, err)
	}
	if err := s.AddIndexers(indexers); err == nil {
		t.Error("an index is added twice")
	}
	if _, err := s.ByIndex("claim", "shop"); err == nil {
		t.Error("an index that there is not answers")
	}
}

// Nobody asks often for all that is in a namespace, so that no index is kept.
func TestAStoreFindsWhatIsInANamespace(t *testing.T) {
	t.Parallel()
	s := NewStore(pods, toolscache.Indexers{toolscache.NamespaceIndex: toolscache.MetaNamespaceIndexFunc})
	other := pod("a", "node-a")
	other.Namespace = "bank"
	for _, p := range []*corev1.Pod{pod("a", "node-a"), pod("b", "node-a"), other, pod("gone", "node-a")} {
		_ = s.Add(p)
	}
	_ = s.Delete(pod("gone", ""))
	for namespace, want := range map[string][]string{"shop": {"shop/a", "shop/b"}, "bank": {"bank/a"}, "none": {}} {
		keys, err := s.IndexKeys(toolscache.NamespaceIndex, namespace)
		slices.Sort(keys)
		if !slices.Equal(keys, want) || err != nil {
			t.Errorf("in %s: %v, %v", namespace, keys, err)
		}
	}
}

// Nodes come and go as long as the process lives.
func TestWordsThatNobodyNamesAreForgotten(t *testing.T) {
	t.Parallel()
	s := NewStore(pods, indexers)
	for i := range 20 * fewWords {
		_ = s.Update(pod("a", fmt.Sprint("node-", i)))
		s.tidy()
	}
	if len(s.words.texts) > 2*fewWords {
		t.Errorf("%d words for one pod", len(s.words.texts))
	}
	if p, _, _ := s.GetByKey("shop/a"); p.(*corev1.Pod).Spec.NodeName != fmt.Sprint("node-", 20*fewWords-1) {
		t.Errorf("got %v", p)
	}
}

// What the records of a large cluster take is in docs/benchmarks.md; here is what keeps it from growing unseen.
func TestARecordTakesLittle(t *testing.T) {
	t.Parallel()
	s := NewStore(pods, nil)
	record := func(i int) string {
		uid := fmt.Sprintf("%08x-aaaa-bbbb-cccc-dddddddddddd", i)
		p := pod(fmt.Sprint("postgresql-", i), "worker-0001.cluster.example.com", "pvc-"+uid)
		p.UID, p.ResourceVersion = types.UID(uid), "123456789"
		return s.pack(p)
	}
	record(0)
	before := len(s.words.texts)
	if text := record(1); len(text) > 64 || len(s.words.texts) != before {
		t.Errorf("%d bytes and %d more words: %q", len(text), len(s.words.texts)-before, text)
	}
	if strings.Contains(record(2), "worker") {
		t.Error("the node's name is in each record")
	}
}
