{{/* Labels of an object, which commonLabels do not override; called with the root and the component. */}}
{{- define "rbd-rescue.labels" -}}
{{- $root := index . 0 }}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_")
  "app.kubernetes.io/instance" $root.Release.Name
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "app.kubernetes.io/managed-by" $root.Release.Service
}}
{{- merge $own (include "rbd-rescue.selectorLabels" (index . 1) | fromYaml) $root.Values.commonLabels | toYaml }}
{{- end }}

{{/* Labels that select a component's pods; called with the component. */}}
{{- define "rbd-rescue.selectorLabels" -}}
app.kubernetes.io/name: rbd-rescue
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "rbd-rescue.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}
