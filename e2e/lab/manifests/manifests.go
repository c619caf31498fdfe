// Package manifests reads what an administrator installs from the chart folder.
package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
)

// Load gives the objects of the chart in a repository.
func Load(repository string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	err := filepath.WalkDir(filepath.Join(repository, "charts", "rbd-rescue", "templates"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
		for {
			object := &unstructured.Unstructured{}
			switch err := decoder.Decode(object); {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return fmt.Errorf("decoding %s: %w", path, err)
			case object.Object != nil:
				objects = append(objects, object)
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("reading the manifests: %w", err)
	}
	return objects, nil
}
