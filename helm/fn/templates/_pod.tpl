{{/* What the pods of all components have in common. */}}

{{/* Pod Security "restricted". Takes (dict "root" $ "values" .Values.COMPONENT). */}}
{{- define "fn.podSecurity" -}}
{{- $given := .values.podSecurityContext | default .root.Values.podSecurityContext -}}
{{- toYaml (merge (dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault")) $given) -}}
{{- end -}}

{{- define "fn.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: ["ALL"]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Where a pod may run, and what it is worth. Takes (dict "root" $ "component" "gateway" "values" .Values.gateway). */}}
{{- define "fn.placement" -}}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- if .values.affinity }}
affinity:
  {{- toYaml .values.affinity | nindent 2 }}
{{- else if .spread }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "fn.selector" . | nindent 14 }}
{{- end }}
{{- if .values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml .values.topologySpreadConstraints | nindent 2 }}
{{- else if .spread }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "fn.selector" . | nindent 8 }}
{{- end }}
{{- end -}}

{{- define "fn.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Settings as an environment, by name: the order of a map is the same in every rendering. */}}
{{- define "fn.settingsEnv" -}}
{{- range $name, $value := . }}
{{- if not (kindIs "invalid" $value) }}
- name: {{ $name }}
  value: {{ include "fn.text" $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A probe of the health listener. Takes (dict "path" "/livez" "values" {…}). */}}
{{- define "fn.probe" -}}
httpGet:
  path: {{ .path }}
  port: health
{{ toYaml .values }}
{{- end -}}

{{/* policy/v1 came with 1.21. Takes (dict "root" $ "component" "gateway" "budget" {…}). */}}
{{- define "fn.disruptionBudget" -}}
apiVersion: {{ ternary "policy/v1" "policy/v1beta1" (semverCompare ">=1.21-0" .root.Capabilities.KubeVersion.Version) }}
kind: PodDisruptionBudget
metadata:
  {{- include "fn.metadata" . | nindent 2 }}
spec:
  {{- toYaml .budget | nindent 2 }}
  selector:
    matchLabels:
      {{- include "fn.selector" . | nindent 6 }}
{{- end -}}
