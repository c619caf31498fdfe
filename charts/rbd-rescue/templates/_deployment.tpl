{{/*
A component's Deployment. Both are alike but for: component, args, and the volumes and volumeMounts that it needs itself;
annotations are its pods'.
*/}}
{{- define "rbd-rescue.deployment" -}}
{{- $values := index .root.Values .component }}
{{- $ownPods := dict "labelSelector" (dict "matchLabels" (include "rbd-rescue.selectorLabels" .component | fromYaml)) }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: rbd-rescue-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "rbd-rescue.labels" (list .root .component) | nindent 4 }}
spec:
  replicas: {{ $values.replicaCount }}
  revisionHistoryLimit: 3
  # An old replica goes when a new one is ready.
  strategy:
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  selector:
    matchLabels: {{- include "rbd-rescue.selectorLabels" .component | nindent 6 }}
  template:
    metadata:
      # No version: an upgrade of the chart alone restarts nothing.
      labels: {{- merge (include "rbd-rescue.selectorLabels" .component | fromYaml) $values.podLabels .root.Values.commonLabels | toYaml | nindent 8 }}
      annotations:
        kubectl.kubernetes.io/default-container: {{ .component }}
        {{- with merge (.annotations | default dict) $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: rbd-rescue-{{ .component }}
      enableServiceLinks: false
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .root.Values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      securityContext: {{- toYaml .root.Values.podSecurityContext | nindent 8 }}
      containers:
        - name: {{ .component }}
          image: {{ include "rbd-rescue.image" .root }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          args:
            - {{ .component }}
            - -v={{ .root.Values.verbosity }}
            - --metrics-bind-address={{ ternary ":8080" "0" .root.Values.metrics.enabled }}
            {{- range concat (.args | default list) $values.extraArgs }}
            - {{ . | quote }}
            {{- end }}
          env:
            - name: POD_NAMESPACE
              valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
            - name: MEMORY_LIMIT
              valueFrom: {resourceFieldRef: {resource: limits.memory}}
            {{- with $values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            {{- range .ports }}
            - {{ toJson . }}
            {{- end }}
            {{- if .root.Values.metrics.enabled }}
            - {name: metrics, containerPort: 8080}
            {{- end }}
            - {name: probes, containerPort: 8081}
          livenessProbe:
            httpGet: {path: /healthz, port: probes}
          readinessProbe:
            httpGet: {path: /readyz, port: probes}
            periodSeconds: 5
          {{- with .lifecycle }}
          lifecycle: {{- toYaml . | nindent 12 }}
          {{- end }}
          resources: {{- toYaml $values.resources | nindent 12 }}
          securityContext: {{- toYaml .root.Values.securityContext | nindent 12 }}
          {{- with concat (.volumeMounts | default list) $values.extraVolumeMounts }}
          volumeMounts: {{- toYaml . | nindent 12 }}
          {{- end }}
      {{- with concat (.volumes | default list) $values.extraVolumes }}
      volumes: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.topologySpreadConstraints }}
      topologySpreadConstraints:
        {{- range . }}
        {{- merge (dict) . $ownPods | list | toYaml | nindent 8 }}
        {{- end }}
      {{- end }}
{{- end }}
