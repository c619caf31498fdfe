package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
)

// What the chart calls the remediator's pods and their container.
const (
	selector  = "app.kubernetes.io/name=rbd-rescue,app.kubernetes.io/component=remediator"
	container = "remediator"
)

// findTimeout bounds the look for a pod.
const findTimeout = 15 * time.Second

// Pod runs commands in a ready pod of the remediator, with the configuration that the pod's own arguments name.
type Pod struct {
	Config *rest.Config
	// Namespace is rbd-rescue's.
	Namespace string
}

// Run runs a command through the API's exec. The user needs to list pods and to create pods/exec there.
func (p Pod) Run(ctx context.Context, streams Streams, args ...string) error {
	clients, err := kubernetes.NewForConfig(p.Config)
	if err != nil {
		return fmt.Errorf("making a client of the Kubernetes API: %w", err)
	}
	pod, err := p.find(ctx, clients)
	if err != nil {
		return err
	}
	command := commandOf(pod, args)
	return call(ctx, streams, command, fmt.Sprintf("rbd-rescue %s in pod %s/%s", args[0], pod.Namespace, pod.Name),
		func(ctx context.Context, streams Streams, command []string) error {
			return p.exec(ctx, clients, pod, streams, command)
		})
}

// find gives the first pod, by name, that is ready.
func (p Pod) find(ctx context.Context, clients kubernetes.Interface) (*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	pods, err := clients.CoreV1().Pods(p.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("finding the remediator's pods in namespace %s: %w", p.Namespace, err)
	}
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	for i := range pods.Items {
		if ready(&pods.Items[i]) {
			return &pods.Items[i], nil
		}
	}
	if len(pods.Items) == 0 {
		return nil, fmt.Errorf("no pod of the remediator (%s) is in namespace %s: say where rbd-rescue runs with --rescue-namespace, or how to run it with --rescue-command", selector, p.Namespace)
	}
	return nil, fmt.Errorf("none of %d pods of the remediator in namespace %s is ready: kubectl -n %s get pods -l %s", len(pods.Items), p.Namespace, p.Namespace, selector)
}

func ready(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// commandOf is rbd-rescue as the pod's container runs it, with another command and what its own arguments say of the configuration.
func commandOf(pod *corev1.Pod, args []string) []string {
	command := []string{"rbd-rescue"} // in the image's $PATH
	var own []string
	for _, c := range pod.Spec.Containers {
		if c.Name == container {
			own = c.Args
			if len(c.Command) > 0 {
				command, own = c.Command[:1:1], append(slices.Clone(c.Command[1:]), c.Args...)
			}
		}
	}
	command = append(command, args...)
	for _, flag := range []string{"--config", "--namespace"} {
		if value, is := valueOf(own, flag); is {
			command = append(command, flag+"="+value)
		}
	}
	return command
}

// valueOf is the last value of a flag: that one counts.
func valueOf(args []string, flag string) (value string, is bool) {
	for i, arg := range args {
		if after, joined := strings.CutPrefix(arg, flag+"="); joined {
			value, is = after, true
		}
		if arg == flag && i+1 < len(args) {
			value, is = args[i+1], true
		}
	}
	return value, is
}

func (p Pod) exec(ctx context.Context, clients kubernetes.Interface, pod *corev1.Pod, streams Streams, command []string) error {
	request := clients.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: container, Command: command, Stdin: streams.In != nil, Stdout: true, Stderr: true,
		}, scheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(p.Config, http.MethodGet, request.URL().String())
	if err != nil {
		return notBegun{fmt.Errorf("connecting to pod %s/%s: %w", pod.Namespace, pod.Name, err)}
	}
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: streams.In, Stdout: streams.Out, Stderr: streams.Err})
	if neverConnected(err) {
		return notBegun{fmt.Errorf("running a command in pod %s/%s, for which you need the right to create pods/exec there: %w", pod.Namespace, pod.Name, err)}
	}
	return err
}

// neverConnected tells whether the API server was not reached, or has refused to open the connection.
func neverConnected(err error) bool {
	var refused *httpstream.UpgradeFailureError
	var network *net.OpError
	return errors.As(err, &refused) || errors.As(err, &network) && network.Op == "dial"
}
