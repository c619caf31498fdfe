package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Releaser lets mappings go.
type Releaser struct {
	Host Host
	// Kernel does what may hang.
	Kernel Kernel
	// Out is told each step before it is taken.
	Out io.Writer
	// Pause between two tries, while the kernel says that something is busy or under way.
	Pause time.Duration
}

// Kernel carries out single steps. Each comes back within the context's time, done or not.
type Kernel interface {
	Unmount(ctx context.Context, path string) error
	Cover(ctx context.Context, path string) error
	DetachLoop(ctx context.Context, name string) error
	CloseCrypt(ctx context.Context, mapper string) error
	Unmap(ctx context.Context, id int) error
}

// Wanted chooses what is to be let go. named says that a person has named just this mapping.
type Wanted func(Survey) (mappings []Mapping, named bool)

// Of is what a person selects.
func (s Selection) Of(survey Survey) ([]Mapping, bool) {
	return slices.DeleteFunc(slices.Clone(survey.Mappings), func(m Mapping) bool { return !s.Selects(m) }), s.Device != "" || s.Image != ""
}

// DryRun tells what would be done.
func (r Releaser) DryRun(ctx context.Context, wanted Wanted) error {
	s, err := r.Host.Survey(ctx)
	if err != nil {
		return err
	}
	mappings, named := wanted(s)
	var refused []error
	for _, m := range mappings {
		if why := Refusal(s, m, named); why != "" {
			refused = append(refused, fmt.Errorf("refused to release %s: %s", m, why))
			continue
		}
		for _, step := range Steps(s, m) {
			r.tell("would %s", step)
		}
	}
	if len(mappings) == 0 {
		r.tell("nothing to release")
	}
	return errors.Join(refused...)
}

// Release lets mappings go, until none that was chosen at first is left or ctx ends. After what others do meanwhile (a kubelet that starts a
// container again, a CSI plugin that unmaps as well) it looks again: only a mapping that the kernel does not show any more has ended.
func (r Releaser) Release(ctx context.Context, wanted Wanted) error {
	first, err := r.Host.Survey(ctx)
	if err != nil {
		return err
	}
	chosen, named := wanted(first)
	if len(chosen) == 0 {
		r.tell("nothing to release")
		return nil
	}
	refused := map[int]error{}
	begun := map[int][]Pod{} // with the pods that used the mapping then: once it is unmounted nothing tells them
	told := map[int]string{} // the last step of each
	for {
		s, err := r.Host.Survey(ctx)
		if err != nil {
			return err
		}
		left := still(s, chosen)
		if len(left) == 0 {
			return nil
		}
		failed := map[int]error{}
		for _, m := range left {
			if refused[m.ID] != nil {
				continue
			}
			if pods, again := begun[m.ID]; again {
				m.Pods = r.stillThere(ctx, m.Pods, pods)
			} else if why := Refusal(s, m, named); why != "" {
				refused[m.ID] = fmt.Errorf("refused to release %s: %s", m, why)
				continue
			}
			begun[m.ID] = m.Pods
			for _, step := range Steps(s, m) {
				if text := step.String(); text != told[m.ID] { // not each time that it is tried again
					r.tell("%s", text)
					told[m.ID] = text
				}
				if err := r.take(ctx, step); err != nil {
					failed[m.ID] = fmt.Errorf("releasing %s: trying to %s: %w", m, step, explain(err, m))
					break
				}
			}
		}
		switch {
		case len(failed) == 0 && len(refused) == 0: // look whether they are gone
		case len(refused) == len(left):
			return joined(refused)
		case !slices.ContainsFunc(left, func(m Mapping) bool { return refused[m.ID] == nil && underWay(failed[m.ID]) }):
			return errors.Join(joined(refused), joined(failed))
		}
		select {
		case <-ctx.Done():
			return errors.Join(joined(refused), joined(failed), fmt.Errorf("gave up: %w", ctx.Err()))
		case <-time.After(r.Pause):
		}
	}
}

// stillThere are the pods that use a mapping, and those that did: a kubelet may have started them again.
func (r Releaser) stillThere(ctx context.Context, now, before []Pod) []Pod {
	pods := slices.Clone(now)
	if len(before) == 0 {
		return pods
	}
	known, err := r.Host.Runtime.Pods(ctx)
	if err != nil {
		return pods // the mapping stays busy, and it is tried again
	}
	for _, pod := range before {
		if !slices.ContainsFunc(pods, func(p Pod) bool { return p.UID == pod.UID }) {
			again := known[pod.UID]
			again.UID, again.Namespace, again.Name = pod.UID, pod.Namespace, pod.Name
			pods = append(pods, again)
		}
	}
	return pods
}

// still are those of the chosen mappings that the kernel shows now. A number may have been given to another image since.
func still(s Survey, chosen []Mapping) []Mapping {
	return slices.DeleteFunc(slices.Clone(s.Mappings), func(m Mapping) bool {
		return !slices.ContainsFunc(chosen, func(c Mapping) bool {
			return c.ID == m.ID && c.ImageName() == m.ImageName() && c.Client == m.Client
		})
	})
}

func joined(failed map[int]error) error {
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(failed)) {
		errs = append(errs, failed[id])
	}
	return errors.Join(errs...)
}

// underWay tells whether it is worth while to look again: the mapping is being unmapped by somebody else, or is busy for a moment.
func underWay(err error) bool {
	return err == nil || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EINPROGRESS)
}

// explain adds who keeps a mapping busy.
func explain(err error, m Mapping) error {
	if errors.Is(err, unix.EBUSY) && len(m.Elsewhere) > 0 {
		return fmt.Errorf("%w: %s has it mounted", err, m.Elsewhere[0])
	}
	return err
}

// take takes one step. What is gone already is done.
func (r Releaser) take(ctx context.Context, step Step) error {
	var err error
	switch s := step.(type) {
	case StopPod:
		return r.Host.Runtime.StopPod(ctx, s.Pod)
	case DetachLoop:
		err = r.Kernel.DetachLoop(ctx, s.Loop)
	case Unmount:
		err = r.Kernel.Unmount(ctx, s.Path)
		if errors.Is(err, unix.EINVAL) { // nothing is mounted there any more
			return nil
		}
	case Cover:
		err = r.Kernel.Cover(ctx, s.Path)
	case CloseCrypt:
		err = r.Kernel.CloseCrypt(ctx, s.Mapper)
	case Unmap:
		err = r.Kernel.Unmap(ctx, s.ID)
	default:
		return fmt.Errorf("no way to take %T", step)
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) {
		return nil
	}
	return err
}

func (r Releaser) tell(format string, args ...any) { fmt.Fprintf(r.Out, format+"\n", args...) }
