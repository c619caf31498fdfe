{{/* What comes into both components. Probes come from the node itself, which no policy holds back. */}}
{{- define "rbd-rescue.networkPolicy.ingress" -}}
{{- with .Values.networkPolicy }}
{{- if $.Values.metrics.enabled -}}
- ports: [{port: 8080, protocol: TCP}]
  {{- with .metrics.from }}
  from: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- with .extraIngress }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end }}

{{/* What both components call: names, and the API server. */}}
{{- define "rbd-rescue.networkPolicy.egress" -}}
{{- with .Values.networkPolicy -}}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
- ports:
    {{- range .apiServer.ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .apiServer.to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- with .extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end }}
