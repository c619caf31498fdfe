package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// arguments are those of a component's container in its Deployment, with the volumes' files in a folder of the lab's: the lab
// does for it what a kubelet does, but for the image.
func (r *Rescue) arguments(ctx context.Context, component string) ([]string, error) {
	deployment := &appsv1.Deployment{}
	if err := r.lab.Client.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: "rbd-rescue-" + component}, deployment); err != nil {
		return nil, fmt.Errorf("reading the Deployment of the %s: %w", component, err)
	}
	pod := deployment.Spec.Template.Spec
	container := pod.Containers[0]
	root := podDir(component)
	var paths []string
	for _, mount := range container.VolumeMounts {
		paths = append(paths, mount.MountPath, root+mount.MountPath)
	}
	moved := strings.NewReplacer(paths...)
	for _, mount := range container.VolumeMounts {
		for _, volume := range pod.Volumes {
			if volume.Name != mount.Name {
				continue
			}
			if err := r.writeVolume(ctx, volume, root+mount.MountPath, moved); err != nil {
				return nil, fmt.Errorf("mounting volume %s of the %s: %w", volume.Name, component, err)
			}
		}
	}
	args := make([]string, len(container.Args))
	for i, arg := range container.Args {
		args[i] = moved.Replace(arg)
	}
	return args, nil
}

func podDir(component string) string { return filepath.Join(Dir, "pods", component) }

// writeVolume writes the files of a volume: whole ConfigMaps and Secrets, and the items of projected Secrets.
func (r *Rescue) writeVolume(ctx context.Context, volume corev1.Volume, dir string, moved *strings.Replacer) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	switch {
	case volume.ConfigMap != nil:
		configMap := &corev1.ConfigMap{}
		if err := r.lab.Client.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: volume.ConfigMap.Name}, configMap); err != nil {
			return err
		}
		for name, text := range configMap.Data {
			if err := writeIfOther(filepath.Join(dir, name), []byte(moved.Replace(text))); err != nil {
				return err
			}
		}
	case volume.Secret != nil:
		secret := &corev1.Secret{}
		if err := r.lab.Client.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: volume.Secret.SecretName}, secret); err != nil {
			if *volume.Secret.Optional {
				return client.IgnoreNotFound(err)
			}
			return err
		}
		for name, text := range secret.Data {
			if err := writeIfOther(filepath.Join(dir, name), text); err != nil {
				return err
			}
		}
	case volume.Projected != nil:
		for _, source := range volume.Projected.Sources {
			secret := &corev1.Secret{}
			if err := r.lab.Client.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: source.Secret.Name}, secret); err != nil {
				return err
			}
			for _, item := range source.Secret.Items {
				if err := writeIfOther(filepath.Join(dir, item.Path), secret.Data[item.Key]); err != nil {
					return err
				}
			}
		}
	default:
		return fmt.Errorf("the lab can't mount %+v", volume.VolumeSource)
	}
	return nil
}

// writeIfOther leaves a file alone that is right: a replica that runs may be reading it.
func writeIfOther(path string, text []byte) error {
	if before, err := os.ReadFile(path); err == nil && bytes.Equal(before, text) {
		return nil
	}
	return os.WriteFile(path, text, 0o600)
}
