{{/* FN_KUBERNETES: JSON as controller/kube/settings.ts has it. */}}
{{- define "fn.kubernetesSettings" -}}
{{- $pods := deepCopy .Values.functions.pods -}}
{{- /* null in values takes a key away; here it has a meaning: none. */ -}}
{{- range list "cpuLimit" "priorityClassName" "spreadOver" -}}
{{- if not (get $pods .) -}}{{- $_ := set $pods . nil -}}{{- end -}}
{{- end -}}
{{- $declared := list -}}
{{- if .Values.declared.enabled -}}
{{- range .Values.declared.namespaces -}}
{{- $declared = append $declared (dict "kubeNamespace" (.kubeNamespace | default $.Release.Namespace) "namespace" .namespace) -}}
{{- end -}}
{{- end -}}
{{- $settings := dict
  "namespace" (include "fn.functionsNamespace" .)
  "installation" (include "fn.installation" .)
  "owner" (include "fn.ownerName" .)
  "pods" $pods
  "sandboxes" .Values.functions.sandboxes
  "networkPolicies" .Values.functions.networkPolicies
  "internalCidrs" .Values.functions.internalCidrs
  "lease" (dict "namespace" .Release.Namespace "name" (printf "%s-leader" (include "fn.fullname" .)))
  "self" (dict "namespace" .Release.Namespace "pod" "@POD@")
  "declared" $declared
-}}
{{- /* $(NAME) is what Kubernetes puts in by itself: in what people write it is doubled, and means itself. */ -}}
{{- $settings | toJson | replace "$" "$$" | replace "@POD@" "$(FN_POD_NAME)" -}}
{{- end -}}

{{/* FN_RUNTIME_IMAGES: runtime → image. */}}
{{- define "fn.runtimeImages" -}}
{{- $images := dict -}}
{{- range $runtime, $image := .Values.runtimes -}}
{{- if $image.enabled -}}
{{- $_ := set $images $runtime (include "fn.image" (dict "root" $ "image" $image)) -}}
{{- end -}}
{{- end -}}
{{- toJson $images -}}
{{- end -}}

{{/* FN_STORE, and the password that it takes from the environment. */}}
{{- define "fn.storeEnv" -}}
{{- if .Values.redis.enabled }}
- name: FN_REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "fn.redisSecret" . }}
      key: {{ .Values.redis.password.key }}
- name: FN_STORE
  value: "redis://:$(FN_REDIS_PASSWORD)@{{ include "fn.fullname" . }}-redis.{{ .Release.Namespace }}.svc:6379/0"
{{- else if .Values.externalRedis.existingSecret }}
- name: FN_STORE
  valueFrom:
    secretKeyRef:
      name: {{ .Values.externalRedis.existingSecret }}
      key: {{ .Values.externalRedis.key }}
{{- else }}
- name: FN_STORE
  value: {{ .Values.externalRedis.url | replace "$" "$$" | quote }}
{{- end }}
{{- end -}}
