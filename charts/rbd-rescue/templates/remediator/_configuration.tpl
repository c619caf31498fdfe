{{/* The remediator's file (docs/configuration.md). The key of cluster N is mounted as keys/N. */}}
{{- define "rbd-rescue.remediator.configuration" -}}
{{- include "rbd-rescue.check" . }}
{{- $clusters := list }}
{{- range $i, $cluster := .Values.ceph.clusters }}
{{- $own := dict "user" ($cluster.user | default "rbd-rescue") "keyFile" (printf "/etc/rbd-rescue/keys/%d" $i) }}
{{- $clusters = append $clusters (merge $own (omit $cluster "secret")) }}
{{- end }}
{{- merge (dict
  "apiVersion" "config.rbd-rescue.io/v1alpha1"
  "kind" "RemediatorConfiguration"
  "cephClusters" $clusters
) .Values.settings | toYaml }}
{{- end }}
