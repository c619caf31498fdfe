package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// completionTimeout: a person waits for it with a key pressed.
const completionTimeout = 3 * time.Second

// completeNodes completes the first argument with names of nodes.
func (p *plugin) completeNodes(command *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	return p.complete(command, args, begun, &corev1.NodeList{}, func(list client.ObjectList) (names []string) {
		for _, node := range list.(*corev1.NodeList).Items {
			names = append(names, node.Name)
		}
		return names
	})
}

// completeFences completes the first argument with names of NodeFences, and of the nodes that have one that is active.
func (p *plugin) completeFences(command *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	return p.complete(command, args, begun, &v1alpha1.NodeFenceList{}, func(list client.ObjectList) (names []string) {
		for i := range list.(*v1alpha1.NodeFenceList).Items {
			nf := &list.(*v1alpha1.NodeFenceList).Items[i]
			names = append(names, nf.Name)
			if nf.Active() {
				names = append(names, nf.Spec.NodeName)
			}
		}
		return names
	})
}

func (p *plugin) complete(command *cobra.Command, args []string, begun string, list client.ObjectList, of func(client.ObjectList) []string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx := command.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	reader, err := p.client()
	if err != nil || reader.List(ctx, list) != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names := slices.DeleteFunc(of(list), func(name string) bool { return !strings.HasPrefix(name, begun) })
	slices.Sort(names)
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}
