package doctor

import (
	"reflect"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// crd: the CRD of NodeFences is there, serves our version, and knows every field that is written: one that it does not know the
// API server would drop without a word.
func crd(f Outside, r *report) string {
	remedy := "Apply the CRD of the installed version: helm upgrade with crds.enabled=true, or kubectl apply --server-side -f charts/rbd-rescue/files/crds."
	if f.CRD == nil {
		r.fail(remedy, "There is no CustomResourceDefinition %s: no node can be fenced.", CRDName)
		return ""
	}
	if !slices.ContainsFunc(f.CRD.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
	}) {
		r.fail(remedy, "CustomResourceDefinition %s is not established.", CRDName)
	}
	for _, version := range f.CRD.Spec.Versions {
		if version.Name != v1alpha1.GroupVersion.Version || !version.Served || version.Schema == nil || version.Schema.OpenAPIV3Schema == nil {
			continue
		}
		if lacking := lacks(*version.Schema.OpenAPIV3Schema, reflect.TypeFor[v1alpha1.NodeFence](), ""); len(lacking) > 0 {
			r.fail(remedy, "CustomResourceDefinition %s is of an older version: it does not know %s.", CRDName, some(lacking))
		}
		return "The CRD of NodeFences is there and knows every field."
	}
	r.fail(remedy, "CustomResourceDefinition %s does not serve version %s.", CRDName, v1alpha1.GroupVersion.Version)
	return ""
}

// CRDName is the name of the CRD.
const CRDName = "nodefences.rbd-rescue.io"

// lacks are the JSON fields of a type that a schema does not know. What the schema does not describe further (metadata, times) is
// taken as it is.
func lacks(schema apiextensionsv1.JSONSchemaProps, t reflect.Type, path string) []string {
	switch t.Kind() {
	case reflect.Pointer:
		return lacks(schema, t.Elem(), path)
	case reflect.Slice:
		if schema.Items == nil || schema.Items.Schema == nil {
			return nil
		}
		return lacks(*schema.Items.Schema, t.Elem(), path+"[]")
	case reflect.Struct:
		if len(schema.Properties) == 0 {
			return nil
		}
		return lacksFields(schema, t, path)
	default:
		return nil
	}
}

func lacksFields(schema apiextensionsv1.JSONSchemaProps, t reflect.Type, path string) (lacking []string) {
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" {
			if field.Anonymous {
				lacking = append(lacking, lacksFields(schema, field.Type, path)...)
			}
			continue
		}
		below := strings.TrimPrefix(path+"."+name, ".")
		property, known := schema.Properties[name]
		switch {
		case !known:
			lacking = append(lacking, below)
		default:
			lacking = append(lacking, lacks(property, field.Type, below)...)
		}
	}
	return lacking
}
