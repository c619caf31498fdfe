// Command same compares two files of Kubernetes objects in YAML, as two versions of Helm render them: the same objects, whatever
// their order, and each the same, however it is written.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"

	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: same FILE FILE")
		os.Exit(2)
	}
	if err := compare(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func compare(one, other string) error {
	ones, err := read(one)
	if err != nil {
		return err
	}
	others, err := read(other)
	if err != nil {
		return err
	}
	var differences []error
	for name, object := range ones {
		if _, is := others[name]; !is {
			differences = append(differences, fmt.Errorf("%s is in %s alone", name, one))
		} else if !reflect.DeepEqual(object, others[name]) {
			differences = append(differences, fmt.Errorf("%s differs:\n%s\n%s", name, text(object), text(others[name])))
		}
	}
	for name := range others {
		if _, is := ones[name]; !is {
			differences = append(differences, fmt.Errorf("%s is in %s alone", name, other))
		}
	}
	return errors.Join(differences...)
}

var separator = regexp.MustCompile(`(?m)^---\s*$`)

// read gives the objects of a file by kind and name.
func read(file string) (map[string]any, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading objects: %w", err)
	}
	objects := map[string]any{}
	for _, document := range separator.Split(string(content), -1) {
		var object struct {
			Kind     string
			Metadata struct{ Namespace, Name string }
		}
		var whole any
		if err := errors.Join(yaml.Unmarshal([]byte(document), &object), yaml.UnmarshalStrict([]byte(document), &whole)); err != nil {
			return nil, fmt.Errorf("reading an object of %s: %w", file, err)
		}
		if whole == nil {
			continue // comments alone
		}
		name := fmt.Sprintf("%s %s/%s", object.Kind, object.Metadata.Namespace, object.Metadata.Name)
		if _, is := objects[name]; is {
			return nil, fmt.Errorf("%s has %s twice", file, name)
		}
		objects[name] = whole
	}
	if len(objects) == 0 {
		return nil, fmt.Errorf("%s has no object", file)
	}
	return objects, nil
}

func text(object any) []byte {
	var out bytes.Buffer
	if err := json.NewEncoder(&out).Encode(object); err != nil {
		return []byte(err.Error())
	}
	return out.Bytes()
}
