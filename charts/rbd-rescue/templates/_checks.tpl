{{/*
What the schema can't say, or not in words: mistakes that would else show when the pods start, or at the first outage. All are
told at once.
*/}}
{{- define "rbd-rescue.check" -}}
{{- $problems := concat (include "rbd-rescue.check.ceph" . | fromJsonArray) (include "rbd-rescue.check.settings" . | fromJsonArray) (include "rbd-rescue.check.certs" . | fromJsonArray) }}
{{- with $problems }}
{{- fail (printf "\n\nThe values can't work:\n- %s\n" (join "\n- " .)) }}
{{- end }}
{{- end }}

{{- define "rbd-rescue.check.ceph" -}}
{{- $problems := list }}
{{- if not .Values.ceph.clusters }}
{{- $problems = append $problems "ceph.clusters: is empty; name at least one Ceph cluster, as in the chart's ci/rook-values.yaml, ci/ceph-csi-values.yaml and ci/plain-values.yaml" }}
{{- end }}
{{- $seen := dict }}
{{- range $i, $cluster := .Values.ceph.clusters }}
{{- $field := printf "ceph.clusters[%d]" $i }}
{{- if hasKey $seen .clusterID }}
{{- $problems = append $problems (printf "%s.clusterID: %q is ceph.clusters[%v] already" $field .clusterID (get $seen .clusterID)) }}
{{- end }}
{{- $_ := set $seen .clusterID $i }}
{{- if and .monitors .monitorsFrom }}
{{- $problems = append $problems (printf "%s: give monitors or monitorsFrom, not both" $field) }}
{{- else if not (or .monitors .monitorsFrom) }}
{{- $problems = append $problems (printf "%s.monitors: is missing; give the monitors' addresses, or monitorsFrom" $field) }}
{{- end }}
{{- range $n, $monitor := .monitors }}
{{- if not (regexMatch ":[0-9]+\\]?$" .) }}
{{- $problems = append $problems (printf "%s.monitors[%d]: %q is not an address with a port, as in 10.0.0.1:6789 or v2:10.0.0.1:3300" $field $n .) }}
{{- end }}
{{- end }}
{{- if hasPrefix "client." (.user | default "") }}
{{- $problems = append $problems (printf "%s.user: write it without \"client.\": %q" $field (trimPrefix "client." .user)) }}
{{- end }}
{{- end }}
{{- toJson $problems }}
{{- end }}

{{- define "rbd-rescue.check.settings" -}}
{{- $problems := list }}
{{- $duration := "^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$" }}
{{- with .Values.settings }}
{{- if and .maxFailedNodes (not (regexMatch "^[0-9]+%?$" (toString .maxFailedNodes))) }}
{{- $problems = append $problems (printf "settings.maxFailedNodes: must be a number of nodes or a percentage, as in 3 or 34%%, not %q" (toString .maxFailedNodes)) }}
{{- end }}
{{- range $field := list "stuckAfter" "snapshotsKeptFor" }}
{{- $value := get $.Values.settings $field }}
{{- if and $value (not (regexMatch $duration $value)) }}
{{- $problems = append $problems (printf "settings.%s: must be a time, as in 2m or 90s, not %q" $field $value) }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.node }}
{{- range $field := list "clearAfter" "releaseAfter" }}
{{- $value := get $.Values.node $field }}
{{- if and $value (not (regexMatch $duration $value)) }}
{{- $problems = append $problems (printf "node.%s: must be a time, as in 30s or 5m, not %q" $field $value) }}
{{- end }}
{{- end }}
{{- if and .enabled (not $.Values.policies.enabled) }}
{{- $problems = append $problems "node.enabled: needs policies.enabled; without the policies the agent of any node could have the fence of every other lifted" }}
{{- end }}
{{- end }}
{{- range $field := list "duration" "renewBefore" }}
{{- $value := get $.Values.certs $field }}
{{- if not (regexMatch $duration $value) }}
{{- $problems = append $problems (printf "certs.%s: must be a time, as in 2160h, not %q" $field $value) }}
{{- end }}
{{- end }}
{{- if not (regexMatch "^(sha256:[0-9a-f]{64})?$" .Values.image.digest) }}
{{- $problems = append $problems (printf "image.digest: must be sha256: and 64 hexadecimal digits, not %q" .Values.image.digest) }}
{{- end }}
{{- if not (regexMatch "^(https://[^/?#@]+/?)?$" .Values.webhook.url) }}
{{- $problems = append $problems (printf "webhook.url: must be https:// with a host, as in https://webhook.example:9443, not %q; the path is added to it" .Values.webhook.url) }}
{{- end }}
{{- toJson $problems }}
{{- end }}

{{- define "rbd-rescue.check.certs" -}}
{{- $problems := list }}
{{- with .Values.certs }}
{{- if eq .mode "secret" }}
{{- if not .secretName }}
{{- $problems = append $problems "certs.secretName: is missing; in mode secret it names the Secret with tls.crt and tls.key" }}
{{- end }}
{{- if not (contains "-----BEGIN CERTIFICATE-----" .caBundle) }}
{{- $problems = append $problems "certs.caBundle: is no certificate in PEM; in mode secret give the CA's, as in --set-file certs.caBundle=ca.crt" }}
{{- end }}
{{- else if or .secretName .caBundle }}
{{- $problems = append $problems (printf "certs.secretName and certs.caBundle: are of mode secret, and certs.mode is %s" .mode) }}
{{- end }}
{{- if and .issuerRef (ne .mode "cert-manager") }}
{{- $problems = append $problems (printf "certs.issuerRef: is of mode cert-manager, and certs.mode is %s" .mode) }}
{{- end }}
{{- end }}
{{- toJson $problems }}
{{- end }}
