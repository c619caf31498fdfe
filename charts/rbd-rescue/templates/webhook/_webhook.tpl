{{/* How the API server calls a path of the webhook; called with the root and the path. */}}
{{- define "rbd-rescue.webhook.clientConfig" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.webhook.url -}}
url: {{ trimSuffix "/" $root.Values.webhook.url }}{{ index . 1 }}
{{- else -}}
service:
  namespace: {{ $root.Release.Namespace }}
  name: rbd-rescue-webhook
  path: {{ index . 1 }}
  port: 443
{{- end }}
{{- if eq $root.Values.certs.mode "secret" }}
caBundle: {{ b64enc $root.Values.certs.caBundle }}
{{- end }}
{{- end }}

{{/* Annotations of a webhook configuration. Who writes the caBundle: in mode self rbd-rescue, which needs no annotation. */}}
{{- define "rbd-rescue.webhook.annotations" -}}
{{- $annotations := .Values.webhook.annotations }}
{{- if eq .Values.certs.mode "cert-manager" }}
{{- $annotations = merge (dict "cert-manager.io/inject-ca-from" (printf "%s/rbd-rescue-webhook" .Release.Namespace)) $annotations }}
{{- end }}
{{- with $annotations }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* The names and addresses by which the API server calls the webhook, as {names: […], addresses: […]}. */}}
{{- define "rbd-rescue.webhook.hosts" -}}
{{- $names := list (printf "rbd-rescue-webhook.%s.svc" .Release.Namespace) }}
{{- $addresses := list }}
{{- with .Values.webhook.url }}
{{- $host := (urlParse .).hostname }}
{{- if regexMatch "^[0-9.]+$|:" $host }}
{{- $addresses = append $addresses $host }}
{{- else }}
{{- $names = append $names $host }}
{{- end }}
{{- end }}
{{- dict "names" $names "addresses" $addresses | toJson }}
{{- end }}
