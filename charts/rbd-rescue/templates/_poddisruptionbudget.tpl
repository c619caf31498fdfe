{{/* A component's PodDisruptionBudget; called with the root and the component. */}}
{{- define "rbd-rescue.podDisruptionBudget" -}}
{{- $root := index . 0 }}
{{- $component := index . 1 }}
{{- with (index $root.Values $component).podDisruptionBudget }}
{{- if .enabled }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: rbd-rescue-{{ $component }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "rbd-rescue.labels" (list $root $component) | nindent 4 }}
spec:
  maxUnavailable: {{ .maxUnavailable }}
  # A replica that is not ready protects nobody: it must not hold up the drain of a node.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "rbd-rescue.selectorLabels" $component | nindent 6 }}
{{- end }}
{{- end }}
{{- end }}
