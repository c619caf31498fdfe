// Command schemas writes the JSON schemas that kubeconform needs, a file for each kind: of Kubernetes, from its swagger.json, and
// of custom resources, from their definitions. Unknown fields are errors in them. kubeconform's own would come over the network,
// and for the released versions alone.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

type object = map[string]any

func main() {
	swagger := flag.String("swagger", "", "api/openapi-spec/swagger.json of Kubernetes")
	out := flag.String("out", "", "folder to write GROUP/VERSION/KIND.json to")
	flag.Parse() // the rest are files of CustomResourceDefinitions
	if err := run(*swagger, *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "schemas:", err)
		os.Exit(1)
	}
}

func run(swagger, out string, definitions []string) error {
	if err := fromSwagger(swagger, out); err != nil {
		return fmt.Errorf("reading %s: %w", swagger, err)
	}
	for _, path := range definitions {
		if err := fromDefinition(path, out); err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
	}
	return nil
}

func fromSwagger(path, out string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var swagger struct{ Definitions map[string]object }
	if err := json.Unmarshal(text, &swagger); err != nil {
		return err
	}
	for _, schema := range swagger.Definitions {
		forbidUnknown(schema)
	}
	for name, schema := range swagger.Definitions {
		kinds, _ := schema["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 { // those with many, as DeleteOptions, are in no manifest
			continue
		}
		kind := kinds[0].(object)
		group := kind["group"].(string)
		if group == "" {
			group = "v1" // as kubeconform has it
		}
		used := map[string]object{}
		collect(name, swagger.Definitions, used)
		whole := object{"$ref": "#/definitions/" + name, "definitions": used}
		if err := write(out, group, kind["version"].(string), kind["kind"].(string), whole); err != nil {
			return err
		}
	}
	return nil
}

// collect adds a definition and all that it refers to.
func collect(name string, all, used map[string]object) {
	if _, known := used[name]; known {
		return
	}
	used[name] = all[name]
	walk(all[name], func(schema object) {
		if ref, ok := schema["$ref"].(string); ok {
			collect(strings.TrimPrefix(ref, "#/definitions/"), all, used)
		}
	})
}

func fromDefinition(path, out string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var definition struct {
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name   string
				Schema struct{ OpenAPIV3Schema object }
			}
		}
	}
	if err := yaml.Unmarshal(text, &definition); err != nil {
		return err
	}
	for _, version := range definition.Spec.Versions {
		forbidUnknown(version.Schema.OpenAPIV3Schema)
		if err := write(out, definition.Spec.Group, version.Name, definition.Spec.Names.Kind, version.Schema.OpenAPIV3Schema); err != nil {
			return err
		}
	}
	return nil
}

func forbidUnknown(schema object) {
	walk(schema, func(schema object) {
		if _, has := schema["properties"].(object); has && schema["type"] == "object" {
			if _, says := schema["additionalProperties"]; !says && schema["x-kubernetes-preserve-unknown-fields"] != true {
				schema["additionalProperties"] = false
			}
		}
		if schema["format"] == "int-or-string" {
			delete(schema, "type")
			maps.Copy(schema, object{"oneOf": []any{object{"type": "string"}, object{"type": "integer"}}})
		}
	})
}

func walk(node any, visit func(object)) {
	switch node := node.(type) {
	case object:
		visit(node)
		for _, child := range node {
			walk(child, visit)
		}
	case []any:
		for _, child := range node {
			walk(child, visit)
		}
	}
}

func write(out, group, version, kind string, schema object) error {
	path := filepath.Join(out, group, version, strings.ToLower(kind)+".json")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	text, err := json.Marshal(schema)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
