{{- define "carillon.labels" -}}
app.kubernetes.io/name: carillon
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "carillon.selector" -}}
app.kubernetes.io/name: carillon
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "carillon.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "carillon.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The settings that are secrets, by file: those of all, and over them what is of "of" alone. */}}
{{- define "carillon.secrets" -}}
{{- range $name, $key := merge (dict) (.of.secretSettings | default dict) .root.Values.secretSettings }}
- name: {{ $name }}_FILE
  value: /run/secrets/carillon/{{ $key }}
{{- end }}
{{- end }}

{{/* A node's environment: secrets by file, settings by value. */}}
{{- define "carillon.environment" -}}
{{- include "carillon.secrets" . }}
{{- if .root.Values.catalogue }}
- name: CARILLON_CATALOGUE
  value: /etc/carillon/catalogue.yaml
{{- end }}
{{- end }}

{{- define "carillon.mounts" -}}
- name: secrets
  mountPath: /run/secrets/carillon
  readOnly: true
{{- if .Values.catalogue }}
- name: catalogue
  mountPath: /etc/carillon
  readOnly: true
{{- end }}
{{- end }}

{{- define "carillon.volumes" -}}
- name: secrets
  secret:
    secretName: {{ .Values.existingSecret }}
    defaultMode: 0440
{{- if .Values.catalogue }}
- name: catalogue
  configMap:
    name: {{ include "carillon.name" . }}-catalogue
{{- end }}
{{- end }}

{{- define "carillon.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "carillon.podSecurity" -}}
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end }}
