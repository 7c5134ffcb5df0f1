{{- define "hivewire.name" -}}
{{- if gt (len .Release.Name) 40 }}{{ fail "The name of the release is longer than 40 characters: names would be cut." }}{{ end -}}
{{ .Release.Name }}
{{- end }}

{{- define "hivewire.chart" -}}
{{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Arguments: root, component. */}}
{{- define "hivewire.selector" -}}
app.kubernetes.io/name: hivewire
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "hivewire.labels" -}}
{{ include "hivewire.selector" . }}
app.kubernetes.io/part-of: hivewire
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ include "hivewire.chart" .root }}
{{- end }}

{{- define "hivewire.imageOf" -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag }}{{ end }}
{{- end }}

{{- define "hivewire.image" -}}
{{- include "hivewire.imageOf" (dict "repository" .Values.image.repository "digest" .Values.image.digest "tag" (.Values.image.tag | default .Chart.AppVersion)) }}
{{- end }}

{{- define "hivewire.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "hivewire.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where pods go. Arguments: root, component, values. */}}
{{- define "hivewire.placement" -}}
topologySpreadConstraints:
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "hivewire.selector" . | nindent 6 }}
{{- with .values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{ toYaml . | nindent 0 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{/* The namespaces that are watched, as JSON: a list, empty for all. */}}
{{- define "hivewire.watched" -}}
{{- if and .Values.operator.clusterWide .Values.operator.watchNamespaces }}{{ fail "Set either operator.clusterWide or operator.watchNamespaces." }}{{ end -}}
{{- if .Values.operator.clusterWide }}[]{{ else }}{{ .Values.operator.watchNamespaces | default (list .Release.Namespace) | toJson }}{{ end }}
{{- end }}

{{- define "hivewire.watchedList" -}}
{{- $watched := include "hivewire.watched" . | fromJsonArray }}
{{- if $watched }}{{ join "," $watched }}{{ else }}*{{ end }}
{{- end }}

{{- define "hivewire.bundled" -}}
{{- if eq .Values.nats.mode "bundled" }}yes{{ end }}
{{- end }}

{{- define "hivewire.natsUrl" -}}
{{- if include "hivewire.bundled" . -}}
{{ ternary "tls" "nats" (not (empty .Values.nats.tls.existingSecret)) }}://{{ include "hivewire.name" . }}-nats.{{ .Release.Namespace }}.svc:4222
{{- else -}}
{{ required "nats.external.url is needed with nats.mode external: nats://host:4222." .Values.nats.external.url }}
{{- end }}
{{- end }}

{{- define "hivewire.login" -}}
{{- if include "hivewire.bundled" . }}default{{ else }}{{ .Values.nats.external.login }}{{ end }}
{{- end }}

{{- define "hivewire.caSecret" -}}
{{- if include "hivewire.bundled" . }}{{ .Values.nats.tls.existingSecret }}{{ else }}{{ .Values.nats.external.caSecret }}{{ end }}
{{- end }}

{{/* The AgentSystem's spec, as JSON. */}}
{{- define "hivewire.systemSpec" -}}
{{- $nats := dict "url" (include "hivewire.natsUrl" .) }}
{{- with include "hivewire.login" . }}{{ $_ := set $nats "login" . }}{{ end }}
{{- with include "hivewire.caSecret" . }}{{ $_ := set $nats "caSecret" . }}{{ end }}
{{- $replicas := ternary .Values.nats.nodes .Values.nats.external.replicas (eq .Values.nats.mode "bundled") | int }}
{{- $spec := dict "nats" $nats "streams" (dict "replicas" $replicas) }}
{{- if .Values.toolbox.enabled }}{{ $_ := set $spec "adminLogin" true }}{{ end }}
{{- with .Values.otlpEndpoint }}{{ $_ := set $spec "defaults" (dict "otlpEndpoint" .) }}{{ end }}
{{- mustMergeOverwrite $spec (deepCopy .Values.system.spec) | toJson }}
{{- end }}

{{/* The login that the gateway gets: that of the AgentSystem, whatever system.spec says. */}}
{{- define "hivewire.gatewayLogin" -}}
{{- $spec := include "hivewire.systemSpec" . | fromJson }}
{{- if $spec.nats.login }}hivewire-gateway-nats{{ end }}
{{- end }}

{{/* A password that is made at the first installation and kept: that of a Secret, or a new one. Arguments: root, name, key. */}}
{{- define "hivewire.kept" -}}
{{- $found := lookup "v1" "Secret" .root.Release.Namespace .name }}
{{- if and $found $found.data }}{{ index $found.data .key | b64dec }}{{ else }}{{ randAlphaNum 40 }}{{ end }}
{{- end }}

{{/* What lets agents, operator and gateway reach an address by name. */}}
{{- define "hivewire.dnsEgress" -}}
- ports:
  - {port: 53, protocol: UDP}
  - {port: 53, protocol: TCP}
{{- end }}

{{- define "hivewire.metricsIngress" -}}
- ports: [{port: metrics}]
  {{- with .Values.networkPolicies.metricsFrom }}
  from: {{ toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* What agents and gateway speak to. */}}
{{- define "hivewire.egress" -}}
{{ include "hivewire.dnsEgress" . }}
- ports: [{port: {{ .Values.networkPolicies.natsPort }}}]
{{- if include "hivewire.bundled" . }}
  to:
  - namespaceSelector:
      matchLabels: {kubernetes.io/metadata.name: {{ .Release.Namespace }}}
    podSelector:
      matchLabels:
        {{- include "hivewire.selector" (dict "root" . "component" "nats") | nindent 8 }}
{{- end }}
{{- if .Values.otlpEndpoint }}
- ports: [{port: {{ .Values.networkPolicies.otlpPort }}}]
{{- end }}
{{- end }}
